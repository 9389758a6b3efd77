// Several sources side by side, each with its share of the rows and in its own order and epochs.
//
// Rows come in blocks. In every block a source has the same number of rows, its share by the method
// of largest remainders, in an order keyed by (seed, block): so row i is found without the rows
// before it, each source's rows come one after the other without a gap, and shares are exact over
// every block.
#pragma once

#include <memory>
#include <vector>

#include "data/token_source.h"

namespace switchyard {

// `total` shared out by the weights (> 0): largest remainders first, of equal ones the earlier.
std::vector<int64_t> shares_of(int64_t total, const std::vector<double>& weights);

class MixtureSource : public TokenSource {
 public:
  static constexpr int64_t kBlockRows = 4096;

  struct Part {
    std::unique_ptr<TokenSource> source;
    double weight = 1.0;  // at least 1 / kBlockRows of their sum
  };

  // Training rows, endlessly. The parts have the same widths and vocabulary; all are
  // causal, or none is. Labels of the same
  // name are one label.
  MixtureSource(std::vector<Part> parts, uint64_t seed);

  // Evaluation rows: `rows` shared out by weight; of a part that has fewer, all.
  static std::unique_ptr<MixtureSource> evaluation(std::vector<Part> parts, int64_t rows);

  bool causal() const override { return parts_.front().source->causal(); }
  int inputs_width() const override { return parts_.front().source->inputs_width(); }
  int targets_width() const override { return parts_.front().source->targets_width(); }
  const Vocabulary& vocabulary() const override { return parts_.front().source->vocabulary(); }
  const std::vector<std::string>& label_names() const override { return label_names_; }
  // Of training rows: those of one epoch of every part together.
  int64_t epoch_size() const override { return epoch_size_; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override;

  struct Place {
    size_t part;
    int64_t index;  // in the part's source
  };
  Place place(int64_t global_index) const;

 private:
  MixtureSource(std::vector<Part> parts, const std::vector<int64_t>& rows_of_block, uint64_t seed);

  std::vector<Part> parts_;
  std::vector<int64_t> first_;               // [parts + 1]: the slots of a block that each part has
  std::vector<std::vector<int>> label_map_;  // by part: its labels among all
  std::vector<std::string> label_names_;
  uint64_t seed_;
  int64_t epoch_size_ = 0;
  bool endless_ = true;
};

}  // namespace switchyard
