// How this backend adds float32 partials to a weight's 64-bit sums (ops/ordered_sums.h): integers
// may be added atomically, for their sum is the same in any order. For the .cu files of this
// folder.
#pragma once

#include "backends/cuda/cuda_types.h"
#include "tensor/weight.h"

namespace switchyard::cuda {

// Fails where the operation and the weight disagree on how gradients are summed.
inline bool sums_ordered(const ExecContext& ctx, const Weight& w) {
  SWITCHYARD_CHECK((ctx.ordered != nullptr) == w.keeps_ordered_sums(), w.name(),
                   ctx.ordered ? " keeps no ordered sums" : " keeps ordered sums");
  return ctx.ordered != nullptr;
}

// What a kernel adds to; CUDA's atomics know unsigned numbers, whose sums have the same bits.
struct OrderedTarget {
  unsigned long long* sums;
  unsigned long long* refused;
  float limit;
};

// One operation's target: zeroed on the stream if this is the first gradient of the step.
inline OrderedTarget ordered_target(const ExecContext& ctx, Weight& w) {
  const TensorView sums = w.ordered_sums();
  if (w.next_gradient_write() == Write::kOverwrite) {
    GPU_CHECK(cudaMemsetAsync(sums.raw(), 0, sums.size_bytes(), cuda_stream(ctx)));
  }
  return {reinterpret_cast<unsigned long long*>(sums.data<int64_t>()),
          reinterpret_cast<unsigned long long*>(ctx.ordered->refused.data<int64_t>()),
          ctx.ordered->limit(w)};
}

// The integer that a partial joins the sums as; 0 for one that is refused, which is counted.
__device__ inline long long ordered_integer(float partial, float limit, int& refused) {
  if (fabsf(partial) < limit) {
    return llrint(static_cast<double>(partial) * static_cast<double>(1LL << kOrderedFractionBits));
  }
  ++refused;  // a NaN, too
  return 0;
}
__device__ inline void add_to_sums(unsigned long long* sum, long long integer) {
  if (integer != 0) atomicAdd(sum, static_cast<unsigned long long>(integer));
}

// The same for a single partial.
__device__ inline void add_ordered(const OrderedTarget& target, int64_t element, float partial) {
  int refused = 0;
  add_to_sums(target.sums + element, ordered_integer(partial, target.limit, refused));
  if (refused != 0) atomicAdd(target.refused, 1ULL);
}

}  // namespace switchyard::cuda
