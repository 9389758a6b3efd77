// A token source of random sequences of random lengths, padded at the end.
#pragma once

#include "base/random.h"
#include "data/token_source.h"

namespace switchyard::test {

class RandomSource : public TokenSource {
 public:
  RandomSource(int inputs_width, int targets_width, int vocabulary)
      : inputs_width_(inputs_width), targets_width_(targets_width), vocabulary_(vocabulary) {}

  int inputs_width() const override { return inputs_width_; }
  int targets_width() const override { return targets_width_; }
  int vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return labels_; }
  int64_t epoch_size() const override { return 1 << 20; }

  // Every seventh sample has nothing but padding in its inputs, from the fourth one on.
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override {
    batch = {.rows = static_cast<int64_t>(global_indices.size()),
             .inputs_width = inputs_width_,
             .targets_width = targets_width_};
    for (const int64_t index : global_indices) {
      const auto sample = static_cast<uint32_t>(index);
      append(sample, 0, inputs_width_, index % 7 == 3 ? 0 : 1, batch.inputs);
      append(sample, 1, targets_width_, 1, batch.targets);
      batch.labels.push_back(0);
    }
  }

 private:
  void append(uint32_t sample, uint32_t side, int width, int least,
              std::vector<int32_t>& ids) const {
    const RandomKey key{.seed = 99};
    const auto below = [&](uint32_t element, int count) {
      return static_cast<int>(random_uniform(key, sample, side, element) *
                              static_cast<float>(count));
    };
    const int length = least == 0 ? 0 : 1 + below(1000, width);
    for (int i = 0; i < width; ++i) {
      ids.push_back(i < length ? 1 + below(static_cast<uint32_t>(i), vocabulary_ - 1) : 0);
    }
  }

  int inputs_width_, targets_width_, vocabulary_;
  std::vector<std::string> labels_ = {"all"};
};

}  // namespace switchyard::test
