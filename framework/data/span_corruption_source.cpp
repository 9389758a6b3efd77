#include "data/span_corruption_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {

static int segment_tokens(const SpanCorruptionSourceOptions& options) {
  check_sentinels(options.inputs_length, options.corruption);
  if (options.min_tokens < 1) {
    throw ConfigError(fmt::format("min_tokens {} is below 1", options.min_tokens));
  }
  return span_lengths(options.inputs_length, options.corruption).tokens;
}

SpanCorruptionSource::SpanCorruptionSource(const Dataset& dataset, Split split,
                                           const SpanCorruptionSourceOptions& options)
    : dataset_(&dataset),
      tokens_(&dataset.tokens(split)),
      options_(options),
      widths_(widest_corrupted_lengths(segment_tokens(options), options.corruption)),
      segments_(*tokens_, widths_.tokens, std::min(options.min_tokens, widths_.tokens)) {
  if (segments_.size() == 0) {
    throw InputError(fmt::format("the {} split has no {} tokens of one label", name_of(split),
                                 options.min_tokens),
                     dataset.directory().string(), "build the dataset from more text");
  }
  epoch_size_ = segments_.size();
  sampler_.emplace(segments_.size(), options.seed);
}

SpanCorruptionSource SpanCorruptionSource::evaluation(const Dataset& dataset, Split split,
                                                      SpanCorruptionSourceOptions options,
                                                      int64_t samples) {
  SWITCHYARD_CHECK(samples >= 1, samples, " samples");
  options.seed = kEvaluationSeed;
  SpanCorruptionSource source(dataset, split, options);
  source.epoch_size_ = std::min(source.epoch_size_, samples);
  source.endless_ = false;
  return source;
}

Sample SpanCorruptionSource::sample(int64_t global_index) const {
  SWITCHYARD_CHECK(endless_ || global_index < epoch_size_, "evaluation sample ", global_index,
                   " of ", epoch_size_);
  const auto [epoch, segment_index] = (*sampler_)(global_index);
  const Segment segment = segments_[segment_index];
  std::vector<int32_t> ids(static_cast<size_t>(segment.tokens));
  tokens_->read(segment.begin, ids);
  const SampleKey key{options_.seed, epoch, global_index % sampler_->epoch_size()};
  CorruptedText text =
      corrupt_spans(ids, dataset_->tokenizer().sentinel_id(0), options_.corruption, key);
  return {std::move(text.inputs), std::move(text.targets), segment.label, segment_index};
}

void SpanCorruptionSource::fill(std::span<const int64_t> global_indices, TokenBatch& batch) const {
  batch.rows = static_cast<int64_t>(global_indices.size());
  batch.inputs_width = inputs_width();
  batch.targets_width = targets_width();
  batch.inputs.assign(batch.rows * batch.inputs_width, kPadId);
  batch.targets.assign(batch.rows * batch.targets_width, kPadId);
  batch.labels.resize(batch.rows);
  for (int64_t row = 0; row < batch.rows; ++row) {
    const Sample sample = this->sample(global_indices[row]);
    std::ranges::copy(sample.inputs, batch.inputs.begin() + row * batch.inputs_width);
    std::ranges::copy(sample.targets, batch.targets.begin() + row * batch.targets_width);
    batch.labels[row] = sample.label;
  }
}

}  // namespace switchyard
