// What every operation is given: which kernels compute it, on which stream, with which scratch
// memory.
#pragma once

#include <cstdint>
#include <span>

#include "base/tracer.h"
#include "ops/flop_counter.h"
#include "ops/ordered_sums.h"
#include "tensor/arena.h"
#include "tensor/stream.h"

namespace switchyard {

class Kernels;

struct ExecContext {
  Kernels& kernels;
  Stream& stream;
  Arena& scratch;
  FlopCounter* flops = nullptr;  // of the products executed; null: not counted
  // With it (train.reduction: ordered) gradients of weights are 64-bit sums, equal to the bit in
  // every layout; null: they are summed in whatever order is fastest, equal to rounding.
  const OrderedSums* ordered = nullptr;
  Tracer* tracer = nullptr;  // of this rank; null: nothing is traced

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
