#include "generation/token_rows.h"

#include <algorithm>
#include <numeric>

namespace switchyard {

HostRows::HostRows(size_t count, size_t longest)
    : sequences(static_cast<int64_t>(count)),
      length(std::max<int64_t>(static_cast<int64_t>(longest), 1)) {
  for (std::vector<int32_t>* part : {&ids, &position, &segment}) {
    part->resize(static_cast<size_t>(sequences * length));
  }
}

void HostRows::put(size_t row, size_t place, int32_t id, size_t its_position, bool real) {
  const size_t at = row * static_cast<size_t>(length) + place;
  ids[at] = id;
  position[at] = static_cast<int32_t>(its_position);
  segment[at] = real ? 1 : 0;
}

DeviceRows::DeviceRows(LayerContext& ctx, const HostRows& host, int64_t group_tokens) {
  for (int64_t b = 0; b <= host.sequences; ++b) {
    sequences_.push_back(b);
    offsets_.push_back(b * host.length);
  }
  std::vector<int64_t> index(host.ids.size());
  std::iota(index.begin(), index.end(), 0);
  const std::vector<uint8_t> real(host.segment.begin(), host.segment.end());
  rows_ = {.sequences = host.sequences,
           .length = host.length,
           .ids = to_device(ctx, host.ids),
           .global_index = to_device(ctx, index),
           .real = to_device(ctx, real),
           .position = to_device(ctx, host.position),
           .segment = to_device(ctx, host.segment).reshape({host.sequences, host.length}),
           .group_offsets = offsets_,
           .group_sequences = sequences_,
           .group_tokens = group_tokens > 0 ? group_tokens : host.length,
           .groups_of_global_batch = std::max<int64_t>(host.sequences, 1)};
}

std::vector<double> read_back_numbers(LayerContext& ctx, TensorView x) {
  if (x.dtype() == DType::kFloat64) return read_back_as<double>(ctx, x);
  if (x.dtype() == DType::kBFloat16) {
    const TensorView wide = ctx.saved.allocate(DType::kFloat32, x.shape());
    copy(ctx, x, wide);
    x = wide;
  }
  const std::vector<float> numbers = read_back_as<float>(ctx, x);
  return {numbers.begin(), numbers.end()};
}

}  // namespace switchyard
