#include "data/span_corruption_examples.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/errors.h"

namespace switchyard {

static SegmentTable segment_table(const Dataset& dataset, Split split,
                                  const SpanCorruptionExamples::Options& options) {
  if (!dataset.vocabulary().first_sentinel) {
    throw ConfigError("span corruption needs sentinels, and the dataset's vocabulary has none",
                      dataset.directory().string(),
                      dataset.has_tokenizer()
                          ? "set data.task: causal or text_to_text, or build it with a tokenizer "
                            "that is trained here"
                          : "state data.vocabulary.first_sentinel and build again, or set "
                            "data.task: text_to_text");
  }
  check_sentinels(options.inputs_length, options.corruption, dataset.vocabulary().sentinels);
  if (options.min_tokens < 1) {
    throw ConfigError(fmt::format("min_tokens {} is below 1", options.min_tokens));
  }
  const int tokens = span_lengths(options.inputs_length, options.corruption).tokens;
  return {dataset.tokens(split), tokens, std::min(options.min_tokens, tokens)};
}

SpanCorruptionExamples::SpanCorruptionExamples(const Dataset& dataset, Split split,
                                               const Options& options)
    : dataset_(&dataset),
      tokens_(&dataset.tokens(split)),
      options_(options),
      segments_(segment_table(dataset, split, options)) {
  if (segments_.size() == 0) {
    throw InputError(fmt::format("the {} split has no {} tokens of one label", name_of(split),
                                 options.min_tokens),
                     dataset.directory().string(), "build the dataset from more text");
  }
}

SampleLengths SpanCorruptionExamples::lengths(int64_t example) const {
  const SpanLengths lengths = corrupted_lengths(segments_[example].tokens, options_.corruption);
  const int closing = dataset_->vocabulary().eos ? 0 : 1;  // that the arithmetic counts in vain
  return {lengths.inputs - closing, lengths.targets - closing};
}

Sample SpanCorruptionExamples::sample(int64_t example, const SampleKey& key) const {
  const Segment segment = segments_[example];
  ReusedVector<int32_t> ids(static_cast<size_t>(segment.tokens));
  tokens_->read(segment.begin, ids);
  CorruptedText text = corrupt_spans(ids, dataset_->vocabulary(), options_.corruption, key);
  return {std::move(text.inputs), std::move(text.targets), segment.label, example};
}

}  // namespace switchyard
