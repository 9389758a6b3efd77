// A token source of random sequences of random lengths, padded at the end.
#pragma once

#include "base/random.h"
#include "base/reused_memory.h"
#include "data/token_source.h"

namespace switchyard::test {

class RandomSource : public TokenSource {
 public:
  RandomSource(int inputs_width, int targets_width, int vocabulary)
      : inputs_width_(inputs_width),
        targets_width_(targets_width),
        vocabulary_{.size = vocabulary, .pad = 0} {}

  int inputs_width() const override { return inputs_width_; }
  int targets_width() const override { return targets_width_; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return labels_; }
  int64_t epoch_size() const override { return 1 << 20; }

  // Every seventh sample has nothing but padding in its inputs, from the fourth one on.
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override {
    batch.reset(inputs_width_, targets_width_);
    for (const int64_t index : global_indices) {
      const auto sample = static_cast<uint32_t>(index);
      batch.add_row(0);
      batch.add_sample(ids(sample, 0, inputs_width_, index % 7 == 3 ? 0 : 1),
                       ids(sample, 1, targets_width_, 1), 0);
    }
  }

 private:
  ReusedVector<int32_t> ids(uint32_t sample, uint32_t side, int width, int least) const {
    const RandomKey key{.seed = 99};
    const auto below = [&](uint32_t element, int count) {
      return static_cast<int>(random_uniform(key, sample, side, element) *
                              static_cast<float>(count));
    };
    const int length = least == 0 ? 0 : 1 + below(1000, width);
    ReusedVector<int32_t> drawn;
    drawn.reserve(static_cast<size_t>(width));
    for (int i = 0; i < length; ++i) {
      drawn.push_back(1 + below(static_cast<uint32_t>(i), vocabulary_.size - 1));
    }
    return drawn;
  }

  int inputs_width_, targets_width_;
  Vocabulary vocabulary_;
  std::vector<std::string> labels_ = {"all"};
};

}  // namespace switchyard::test
