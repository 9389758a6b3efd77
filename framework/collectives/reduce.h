// The arithmetic of host reductions: always in rank order, so that the bits depend neither on the
// implementation (threaded and mpi agree) nor on who computes which piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "collectives/collectives.h"

namespace switchyard {

// Writes to every target the sum or maximum over the sources, ((source 0 . source 1) . source 2)...
// A target may be one of the sources. int64 sums wrap; a maximum with a NaN is NaN.
//   sources, targets  `count` elements each of float32, float64 or int64
void reduce_in_rank_order(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                          std::span<std::byte* const> targets, int64_t count);

}  // namespace switchyard
