// How routing chooses: masks, the largest numbers of a row, and keys by which rows sort. A number
// that is NaN counts as the lowest: routing stays valid until the loss is found not finite. For the
// .cpp files of this folder only.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tensor/tensor_view.h"

namespace switchyard::cpu {

// Indices of the `choices` largest of row[0..count) in descending order, ties to the lower index.
inline void choose_largest(const float* row, int64_t count, int64_t choices, int32_t* chosen) {
  const auto value = [row](int64_t i) {
    return std::isnan(row[i]) ? -std::numeric_limits<float>::infinity() : row[i];
  };
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    int64_t place = found;
    while (place > 0 && value(i) > value(chosen[place - 1])) --place;
    if (place == choices) continue;
    found = std::min(found + 1, choices);
    std::copy_backward(chosen + place, chosen + found - 1, chosen + found);
    chosen[place] = static_cast<int32_t>(i);
  }
}

// Orders like descending priority, then by the position, which is the key's lower half.
inline uint64_t order_key(float priority, int64_t position) {
  const uint32_t bits = std::bit_cast<uint32_t>(priority + 0.0f);  // -0 like 0
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{is_nan ? 0xFFFFFFFFu : ~ascending} << 32 | static_cast<uint32_t>(position);
}
inline int64_t position_of(uint64_t order_key) {
  return static_cast<int64_t>(order_key & 0xFFFFFFFFu);
}

// A mask's elements (uint8 [T]), null where it is absent; whether it lets token t in.
inline const uint8_t* mask_of(TensorView mask) {
  return mask.absent() ? nullptr : mask.data<uint8_t>();
}
inline bool is_in(const uint8_t* mask, int64_t t) { return mask == nullptr || mask[t] != 0; }

}  // namespace switchyard::cpu
