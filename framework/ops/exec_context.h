// What every operation is given: which kernels compute it, on which stream, with which scratch
// memory.
#pragma once

#include <cstdint>
#include <span>

#include "ops/flop_counter.h"
#include "ops/ordered_sums.h"
#include "tensor/arena.h"
#include "tensor/stream.h"

namespace switchyard {

class Kernels;

// How sums whose parts the layout spreads out are formed.
//   kFast     in the activations' accurate dtype, in whatever order is fastest: equal to rounding
//   kOrdered  one partial per leaf, added as 64-bit integers: equal bits in every layout
enum class Reduction : uint8_t { kFast, kOrdered };

struct ExecContext {
  Kernels& kernels;
  Stream& stream;
  Arena& scratch;
  FlopCounter* flops = nullptr;          // of the products executed; null: not counted
  const OrderedSums* ordered = nullptr;  // how gradients of weights are summed; null: fast

  Reduction reduction() const { return ordered ? Reduction::kOrdered : Reduction::kFast; }

  // Counts `products` products [m, k] x [k, n]; called by the operations of ops/.
  void count_products(int64_t products, int64_t m, int64_t n, int64_t k) const {
    if (flops) flops->add_product(products * m, n, k);
  }
};

// Row boundaries of the leaves (routing groups) in a tensor's rows: leaf i is rows [offsets[i],
// offsets[i + 1]). A leaf is always whole on one rank; gradients of weights are summed leaf by leaf
// when the reduction is ordered.
using LeafOffsets = std::span<const int64_t>;

}  // namespace switchyard
