// Made up sequences of random ids without padding, for measurements: what a step costs doesn't
// depend on what its tokens say, but for the experts that routers choose.
#pragma once

#include "data/token_source.h"

namespace switchyard {

class RandomTokens : public TokenSource {
 public:
  struct Options {
    bool causal = false;  // texts for a decoder alone; both widths are equal then
    int inputs_width = 0, targets_width = 0;
    int vocabulary = 0;  // V, at least 1
    uint64_t seed = 0;
  };
  explicit RandomTokens(const Options& options);

  bool causal() const override { return options_.causal; }
  int inputs_width() const override { return options_.inputs_width; }
  int targets_width() const override { return options_.targets_width; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return labels_; }
  int64_t epoch_size() const override { return int64_t{1} << 40; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override;

 private:
  std::vector<int32_t> draw(int64_t row, uint32_t side, int count) const;

  Options options_;
  Vocabulary vocabulary_;
  std::vector<std::string> labels_ = {"random"};
};

}  // namespace switchyard
