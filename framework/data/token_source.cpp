#include "data/token_source.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard {

void TokenBatch::reset(int new_inputs_width, int new_targets_width, bool is_packed) {
  rows = inputs_end_ = targets_end_ = 0;
  for (auto* list : {&inputs, &targets, &inputs_segment, &targets_segment, &labels}) list->clear();
  inputs_width = new_inputs_width;
  targets_width = new_targets_width;
  packed = is_packed;
  first_sample.assign(1, 0);
}

void TokenBatch::add_row(int32_t filler) {
  inputs_end_ = rows * inputs_width;
  targets_end_ = rows * targets_width;
  ++rows;
  inputs.resize(static_cast<size_t>(rows * inputs_width), filler);
  targets.resize(static_cast<size_t>(rows * targets_width), filler);
  inputs_segment.resize(inputs.size(), 0);
  targets_segment.resize(targets.size(), 0);
  first_sample.push_back(first_sample.back());
}

int32_t TokenBatch::begin_sample(int label) {
  const auto segment =
      static_cast<int32_t>(++first_sample.back() - first_sample[static_cast<size_t>(rows - 1)]);
  SWITCHYARD_CHECK(packed || segment == 1, "segment ", segment, " of an unpacked row");
  labels.push_back(label);
  return segment;
}

void TokenBatch::add_sample(std::span<const int32_t> sample_inputs,
                            std::span<const int32_t> sample_targets, int label) {
  const auto put = [](std::span<const int32_t> from, std::vector<int32_t>& ids,
                      std::vector<int32_t>& segments, int64_t& end, int32_t segment) {
    SWITCHYARD_CHECK(end + static_cast<int64_t>(from.size()) <= static_cast<int64_t>(ids.size()),
                     "a sample of ", from.size(), " tokens doesn't fit its row");
    std::ranges::copy(from, ids.begin() + end);
    std::fill_n(segments.begin() + end, from.size(), segment);
    end += static_cast<int64_t>(from.size());
  };
  const int32_t segment = begin_sample(label);
  put(sample_inputs, inputs, inputs_segment, inputs_end_, segment);
  put(sample_targets, targets, targets_segment, targets_end_, segment);
}

void TokenBatch::add_text(std::span<const int32_t> ids, int64_t read, int64_t first_target,
                          int label) {
  const int64_t count = std::ssize(ids);
  SWITCHYARD_CHECK(inputs_width == targets_width && (read == count || read == count - 1),
                   "a text of ", count, " tokens, ", read, " read");
  SWITCHYARD_CHECK(inputs_end_ + read <= std::ssize(inputs), "a text of ", read,
                   " tokens doesn't fit its row");
  const int32_t segment = begin_sample(label);
  for (int64_t i = 0; i < read; ++i) {
    const auto place = static_cast<size_t>(inputs_end_ + i);
    inputs[place] = ids[static_cast<size_t>(i)];
    inputs_segment[place] = segment;
    if (i + 1 == count || i + 1 < first_target) continue;
    targets[place] = ids[static_cast<size_t>(i + 1)];
    targets_segment[place] = segment;
  }
  inputs_end_ = targets_end_ = inputs_end_ + read;
}

void TokenBatch::append(const TokenBatch& other) {
  SWITCHYARD_CHECK(other.inputs_width == inputs_width && other.targets_width == targets_width,
                   "rows of ", other.inputs_width, " and ", other.targets_width, " for ",
                   inputs_width, " and ", targets_width);
  const auto join = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  const auto samples = static_cast<int64_t>(labels.size());
  for (int64_t row = 1; row <= other.rows; ++row) {
    first_sample.push_back(samples + other.first_sample[static_cast<size_t>(row)]);
  }
  rows += other.rows;
  packed = packed || other.packed;
  join(inputs, other.inputs);
  join(targets, other.targets);
  join(inputs_segment, other.inputs_segment);
  join(targets_segment, other.targets_segment);
  join(labels, other.labels);
  inputs_end_ = static_cast<int64_t>(inputs.size());
  targets_end_ = static_cast<int64_t>(targets.size());
}

}  // namespace switchyard
