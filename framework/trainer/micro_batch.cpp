#include "trainer/micro_batch.h"

#include <numeric>

#include "ops/loss.h"
#include "trainer/workspace.h"

namespace switchyard {

MicroBatch::MicroBatch(const TokenSource& source, const BatchLayout& layout, int64_t micro_batch,
                       int64_t rank, int64_t first_sample) {
  fill(source, layout, micro_batch, rank, first_sample);
}

void MicroBatch::fill(const TokenSource& source, const BatchLayout& layout, int64_t micro_batch,
                      int64_t rank, int64_t first_sample) {
  group_sequences_ = layout.group_sequences;
  groups_of_global_batch_ = layout.groups();
  causal_ = source.causal();
  target_tokens_ = real_tokens_ = 0;
  targets_.clear();
  layout.boundaries(layout.groups_of(micro_batch, rank), sequence_bounds_);
  first_sequence_ = sequence_bounds_.front();
  for (int64_t& bound : sequence_bounds_) bound -= first_sequence_;
  sample_numbers_.resize(static_cast<size_t>(sequence_bounds_.back()));
  std::iota(sample_numbers_.begin(), sample_numbers_.end(), first_sample + first_sequence_);
  source.fill(sample_numbers_, samples_);
  set_groups(decoder_, source.targets_width());
  if (causal_) {
    fill_decoder_alone();
    return;
  }
  set_groups(encoder_, source.inputs_width());
  fill_encoder();
  fill_decoder(source.vocabulary().start());
}

void MicroBatch::set_groups(Side& side, int64_t length) {
  side.length = length;
  side.group_offsets.clear();
  for (int64_t bound : sequence_bounds_) side.group_offsets.push_back(bound * length);
}

void MicroBatch::set_segments(Side& side, const std::vector<int32_t>& segment) {
  side.segment = segment;
  side.position.clear();
  side.label.clear();
  side.real.clear();
  side.global_index.resize(segment.size());
  std::iota(side.global_index.begin(), side.global_index.end(), first_sequence_ * side.length);
  for (size_t i = 0; i < segment.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / side.length;
    const bool goes_on = static_cast<int64_t>(i) % side.length != 0 && segment[i] == segment[i - 1];
    side.position.push_back(goes_on ? side.position.back() + 1 : 0);
    side.label.push_back(segment[i] == 0 ? 0 : samples_.label_of(row, segment[i]));
  }
}

void MicroBatch::fill_encoder() {
  encoder_.ids = samples_.inputs;
  set_segments(encoder_, samples_.inputs_segment);
  for (const int32_t segment : encoder_.segment) {
    encoder_.real.push_back(segment != 0);
    real_tokens_ += segment != 0;
  }
}

// The decoder reads the targets of each segment shifted right by one, as if no other segment stood
// before it; a position is real where its target is.
void MicroBatch::fill_decoder(int32_t start) {
  const auto length = static_cast<size_t>(decoder_.length);
  decoder_.ids.clear();
  set_segments(decoder_, samples_.targets_segment);
  for (size_t i = 0; i < samples_.targets.size(); ++i) {
    const int32_t segment = decoder_.segment[i];
    const bool first = i % length == 0 || (segment != 0 && segment != decoder_.segment[i - 1]);
    decoder_.ids.push_back(first ? start : samples_.targets[i - 1]);
    decoder_.real.push_back(segment != 0);
    targets_.push_back(segment == 0 ? kIgnoredTarget : samples_.targets[i]);
    target_tokens_ += segment != 0;
  }
  real_tokens_ += target_tokens_;
}

// A decoder alone reads the text itself; a token may be read and predict nothing.
void MicroBatch::fill_decoder_alone() {
  decoder_.ids = samples_.inputs;
  set_segments(decoder_, samples_.inputs_segment);
  for (size_t i = 0; i < samples_.inputs.size(); ++i) {
    const bool real = decoder_.segment[i] != 0, predicts = samples_.targets_segment[i] != 0;
    decoder_.real.push_back(real);
    real_tokens_ += real;
    targets_.push_back(predicts ? samples_.targets[i] : kIgnoredTarget);
    target_tokens_ += predicts;
  }
}

TokenRows MicroBatch::upload_side(LayerContext& ctx, const Side& side, bool with_segments) const {
  TokenRows rows{.sequences = sequences(),
                 .length = side.length,
                 .ids = to_device(ctx, side.ids),
                 .global_index = to_device(ctx, side.global_index),
                 .real = to_device(ctx, side.real),
                 .position = to_device(ctx, side.position),
                 .packed = samples_.packed,
                 .labels = side.label,
                 .group_offsets = side.group_offsets,
                 .group_sequences = sequence_bounds_,
                 .group_tokens = group_sequences_ * side.length,
                 .groups_of_global_batch = groups_of_global_batch_};
  if (with_segments) {
    rows.segment = to_device(ctx, side.segment).reshape({sequences(), side.length});
  }
  return rows;
}

ModelBatch MicroBatch::upload_to(LayerContext& ctx) const {
  // Padding of the decoder stands at the end of a row: causality hides it, and only segments need
  // a mask.
  return {.encoder = causal_ ? TokenRows() : upload_side(ctx, encoder_, true),
          .decoder = upload_side(ctx, decoder_, samples_.packed),
          .targets = to_device(ctx, targets_)};
}

}  // namespace switchyard
