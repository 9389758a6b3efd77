#include "cli/show_sequences.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "base/log.h"

namespace switchyard {

namespace {

// Text with sentinels and </s>, or the bare ids of a dataset without a tokenizer.
std::string shown(const Dataset& dataset, std::span<const int32_t> ids) {
  if (!dataset.has_tokenizer()) return fmt::format("{}", fmt::join(ids, " "));
  std::string text = dataset.tokenizer().decode(ids);
  if (!ids.empty() && ids.back() == dataset.vocabulary().eos) {
    text += (text.empty() ? "" : " ") + dataset.tokenizer().piece(ids.back());
  }
  return text;
}

// The tokens of a segment in one row of a side.
std::span<const int32_t> segment_of(const std::vector<int32_t>& ids,
                                    const std::vector<int32_t>& segments, int32_t segment) {
  const auto padding_last = [](int32_t s) { return s == 0 ? INT32_MAX : s; };
  const auto begin = std::ranges::lower_bound(segments, segment, {}, padding_last);
  const auto end = std::ranges::upper_bound(segments, segment, {}, padding_last);
  return {ids.data() + (begin - segments.begin()), static_cast<size_t>(end - begin)};
}

// The segments of a batch of one row for a decoder alone.
void show_texts(const RunData& data, const TokenSource& source, const TokenBatch& batch) {
  for (int32_t segment = 1; segment <= std::ssize(batch.labels); ++segment) {
    const auto text = segment_of(batch.inputs, batch.inputs_segment, segment);
    log_info("  segment {}: label {}, {} tokens, {} predicted", segment,
             source.label_names()[static_cast<size_t>(batch.label_of(0, segment))], text.size(),
             std::ranges::count(batch.targets_segment, segment));
    log_info("  text:    {}", shown(*data.datasets.front(), text));
  }
}

void show_row(const RunData& data, const TokenSource& source, int64_t index) {
  TokenBatch batch;
  source.fill({&index, 1}, batch);
  const auto tokens = [](const std::vector<int32_t>& segments) {
    return std::ranges::count_if(segments, [](int32_t segment) { return segment != 0; });
  };
  const auto samples = static_cast<int32_t>(batch.labels.size());
  if (source.causal()) {
    log_info("sequence {}: {} of {} tokens, {} predicted, {} segment{}", index,
             tokens(batch.inputs_segment), batch.inputs_width, tokens(batch.targets_segment),
             samples, samples == 1 ? "" : "s");
    return show_texts(data, source, batch);
  }
  log_info("sequence {}: inputs {} of {} tokens, targets {} of {}{}", index,
           tokens(batch.inputs_segment), batch.inputs_width, tokens(batch.targets_segment),
           batch.targets_width,
           batch.packed ? fmt::format(", {} segment{}", samples, samples == 1 ? "" : "s") : "");
  const Dataset& dataset = *data.datasets.front();  // all have its tokenizer
  for (int32_t segment = 1; segment <= samples; ++segment) {
    const auto inputs = segment_of(batch.inputs, batch.inputs_segment, segment);
    const auto targets = segment_of(batch.targets, batch.targets_segment, segment);
    const std::string& label =
        source.label_names()[static_cast<size_t>(batch.label_of(0, segment))];
    if (batch.packed) {
      log_info("  segment {}: label {}, inputs {} tokens, targets {}", segment, label,
               inputs.size(), targets.size());
    } else {
      log_info("  label:   {}", label);
    }
    log_info("  inputs:  {}", shown(dataset, inputs));
    log_info("  targets: {}", shown(dataset, targets));
  }
}

}  // namespace

void show_sequences(const RunData& data, Split split, int64_t first, int64_t count) {
  const TokenSource& source = split == Split::kTrain ? *data.training : *data.validation;
  int64_t end = first + count;
  if (split == Split::kValidation) end = std::min(end, source.epoch_size());
  for (int64_t index = first; index < end; ++index) show_row(data, source, index);
}

}  // namespace switchyard
