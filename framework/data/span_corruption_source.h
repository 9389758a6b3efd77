// The batches of a dataset's split under T5's span corruption.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/sampler.h"
#include "data/token_source.h"

namespace switchyard {

// Evaluation always draws with this seed, whatever the run's own is: runs stay comparable.
inline constexpr uint64_t kEvaluationSeed = 0x5715C4A2D0000001;

struct SpanCorruptionSourceOptions {
  int inputs_length = 128;  // tokens of the encoder with sentinels and EOS, as T5 counts them
  SpanCorruptionOptions corruption{};
  int min_tokens = 16;  // of a last, short segment; see sampler.h
  uint64_t seed = 0;
};

// One sample before padding.
struct Sample {
  std::vector<int32_t> inputs, targets;
  int label = 0;
  int64_t segment = 0;  // index into the split's segments, the same in every epoch
};

class SpanCorruptionSource : public TokenSource {
 public:
  // Training samples, endlessly. `dataset` must outlive the source.
  // Throws ConfigError for options out of range, InputError when the split has no segment.
  SpanCorruptionSource(const Dataset& dataset, Split split,
                       const SpanCorruptionSourceOptions& options);

  // Evaluation samples: the first `samples` of the split's own fixed order, all if it has fewer,
  // corrupted the same way every time. options.seed has no say.
  static SpanCorruptionSource evaluation(const Dataset& dataset, Split split,
                                         SpanCorruptionSourceOptions options, int64_t samples);

  int inputs_width() const override { return widths_.inputs; }
  int targets_width() const override { return widths_.targets; }
  int vocabulary() const override { return dataset_->tokenizer().vocabulary(); }
  const std::vector<std::string>& label_names() const override { return dataset_->labels(); }
  int64_t epoch_size() const override { return epoch_size_; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override;

  Sample sample(int64_t global_index) const;

 private:
  const Dataset* dataset_;
  const TokenFile* tokens_;
  SpanCorruptionSourceOptions options_;
  SpanLengths widths_;
  SegmentTable segments_;
  std::optional<Sampler> sampler_;
  int64_t epoch_size_ = 0;
  bool endless_ = true;
};

}  // namespace switchyard
