#include "trainer/micro_batch.h"

#include <numeric>

#include "ops/loss.h"

namespace switchyard {

static constexpr int32_t kPad = 0;
static constexpr int32_t kDecoderStart = 0;

MicroBatch::MicroBatch(const TokenSource& source, const BatchLayout& layout, int64_t micro_batch,
                       int64_t rank, int64_t first_sample)
    : group_sequences_(layout.group_sequences), groups_of_global_batch_(layout.groups()) {
  sequence_bounds_ = layout.boundaries(layout.groups_of(micro_batch, rank));
  first_sequence_ = sequence_bounds_.front();
  for (int64_t& bound : sequence_bounds_) bound -= first_sequence_;
  std::vector<int64_t> indices(static_cast<size_t>(sequence_bounds_.back()));
  std::iota(indices.begin(), indices.end(), first_sample + first_sequence_);
  source.fill(indices, samples_);
  set_groups(encoder_, source.inputs_width());
  set_groups(decoder_, source.targets_width());
  fill_encoder();
  fill_decoder();
}

void MicroBatch::set_groups(Side& side, int64_t length) {
  side.length = length;
  for (int64_t bound : sequence_bounds_) side.group_offsets.push_back(bound * length);
}

void MicroBatch::fill_encoder() {
  encoder_.ids = samples_.inputs;
  for (int32_t id : encoder_.ids) {
    encoder_.real.push_back(id != kPad);
    real_tokens_ += id != kPad;
  }
}

// The decoder reads the targets shifted right by one; a position is real where its target is.
void MicroBatch::fill_decoder() {
  const auto length = static_cast<size_t>(decoder_.length);
  for (size_t i = 0; i < samples_.targets.size(); ++i) {
    const int32_t target = samples_.targets[i];
    decoder_.ids.push_back(i % length == 0 ? kDecoderStart : samples_.targets[i - 1]);
    decoder_.real.push_back(target != kPad);
    targets_.push_back(target == kPad ? kIgnoredTarget : target);
    target_tokens_ += target != kPad;
  }
  real_tokens_ += target_tokens_;
}

template <typename T>
static TensorView to_device(LayerContext& ctx, const std::vector<T>& host) {
  const TensorView view =
      ctx.saved.allocate(DTypeOf<T>::value, {static_cast<int64_t>(host.size())});
  upload(ctx, std::span<const T>(host), view);
  return view;
}

TokenRows MicroBatch::upload_side(LayerContext& ctx, const Side& side, bool with_segments) const {
  std::vector<int64_t> global_index(side.ids.size());
  std::iota(global_index.begin(), global_index.end(), first_sequence_ * side.length);
  TokenRows rows{.sequences = sequences(),
                 .length = side.length,
                 .ids = to_device(ctx, side.ids),
                 .global_index = to_device(ctx, global_index),
                 .real = to_device(ctx, side.real),
                 .labels = samples_.labels,
                 .group_offsets = side.group_offsets,
                 .group_sequences = sequence_bounds_,
                 .group_tokens = group_sequences_ * side.length,
                 .groups_of_global_batch = groups_of_global_batch_};
  if (with_segments) {
    const std::vector<int32_t> segment(side.real.begin(), side.real.end());
    rows.segment = to_device(ctx, segment).reshape({sequences(), side.length});
  }
  return rows;
}

ModelBatch MicroBatch::upload_to(LayerContext& ctx) const {
  // Padding of the decoder stands at the end of a row: causality hides it, no mask is needed.
  return {.encoder = upload_side(ctx, encoder_, true),
          .decoder = upload_side(ctx, decoder_, false),
          .targets = to_device(ctx, targets_)};
}

}  // namespace switchyard
