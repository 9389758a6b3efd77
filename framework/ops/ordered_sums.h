// Gradients of weights as sums that no layout can change (train.reduction: ordered). An operation
// forms one float32 partial per (leaf, element), for experts one per block of kOrderedBlockRows
// consecutive rows of a leaf at that expert, in the order of the rows, and adds it to the weight's
// sums as the 64-bit integer round(partial * 2^52). Integers add up to the same bits in any order:
// of leaves, micro-batches, rounds, ranks.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/tensor_view.h"
#include "tensor/weight.h"

namespace switchyard {

inline constexpr int64_t kOrderedBlockRows = 64;
inline constexpr int kOrderedFractionBits = 52;

// What bounds the sums of one step, the same in every layout.
struct OrderedSums {
  int64_t leaves = 1;     // routing groups of the global batch
  int64_t leaf_rows = 1;  // most rows of a leaf at one expert: its tokens
  // int64 [1] on the device: partials that were not finite or too large to add. They are left out,
  // and the step's gradient counts as not finite.
  TensorView refused;

  // A partial is added only below this magnitude: so many of it as a global batch can add to one
  // element of `w` stay below 2^11, and their sum inside 64 bits.
  float limit(const Weight& w) const {
    const int64_t blocks =
        w.is_expert() ? (leaf_rows + kOrderedBlockRows - 1) / kOrderedBlockRows : 1;
    const double partials =
        static_cast<double>(leaves) * static_cast<double>(w.writes_per_leaf() * blocks);
    const auto limit = static_cast<float>(2048.0 / std::max(1.0, partials));
    return std::nextafter(limit, 0.0f);  // rounding to float may have raised it
  }
};

// A number as a summand of a float64 sum over leaves that must have the same bits in any order:
// rounded to a multiple of 2^-fraction_bits, so that sums stay exact below 2^(53 - fraction_bits).
// Unchanged where sums are not ordered.
inline double ordered_summand(const OrderedSums* ordered, double value, int fraction_bits) {
  if (ordered == nullptr || !std::isfinite(value)) return value;
  return std::ldexp(std::nearbyint(std::ldexp(value, fraction_bits)), -fraction_bits);
}

// Fraction bits of sums over tokens (exact below 2^29) and of means and losses (below 2^13).
inline constexpr int kTokenSumBits = 24;
inline constexpr int kMeanSumBits = 40;

}  // namespace switchyard
