// Runs of elements in registers as floats, and the loop over contiguous elements that operations
// without rows use. For the .cu files of this folder.
#pragma once

#include "backends/cuda/cuda_types.h"

namespace switchyard::cuda {

template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
  T values[N];
};

// N consecutive elements in one load; `from` is aligned to their size.
template <int N, typename T>
__device__ inline void load_floats(const T* from, float (&to)[N]) {
  const auto pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(pack.values[i]);
}
template <int N, typename T>
__device__ inline void store_floats(T* to, const float (&from)[N]) {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.values[i] = from_float<T>(from[i]);
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Whether packs of N elements may be read from `data` and, at `columns` to a row, from every row.
template <int N, typename T>
bool fits_packs(const T* data, int64_t columns = N) {
  return columns % N == 0 && reinterpret_cast<uintptr_t>(data) % (N * sizeof(T)) == 0;
}

inline constexpr int kLoopThreads = 256;
inline constexpr int kPacksAtOnce = 2;  // of each thread, loaded before either is stored

// An Operation has, for N elements from the i-th on,
//   Loaded<N> load<N>(i)       reads what it needs
//   void store<N>(i, Loaded)   computes and writes
template <int N, typename Operation>
__global__ void __launch_bounds__(kLoopThreads)
    loop_over_elements(int64_t elements, Operation operation) {
  const int64_t thread = int64_t{blockIdx.x} * kLoopThreads + threadIdx.x;
  const int64_t stride = int64_t{gridDim.x} * kLoopThreads * N;
  for (int64_t first = thread * N; first < elements; first += stride * kPacksAtOnce) {
    typename Operation::template Loaded<N> loaded[kPacksAtOnce];
#pragma unroll
    for (int k = 0; k < kPacksAtOnce; ++k) {
      const int64_t i = first + k * stride;
      if (i + N <= elements) loaded[k] = operation.template load<N>(i);
    }
#pragma unroll
    for (int k = 0; k < kPacksAtOnce; ++k) {
      const int64_t i = first + k * stride;
      if (i + N <= elements) operation.template store<N>(i, loaded[k]);
    }
  }
  const int64_t rest = elements / N * N + thread;
  if (rest < elements) operation.template store<1>(rest, operation.template load<1>(rest));
}

// Runs an operation on all elements, N at a time where `packs` says that its tensors allow it.
template <int N, typename Operation>
void over_elements(const ExecContext& ctx, int64_t elements, bool packs,
                   const Operation& operation) {
  const auto launch = [&](auto kernel, int pack) {
    gpu_launch(kernel, striding_blocks(elements, kLoopThreads * kPacksAtOnce * pack), kLoopThreads,
               0, cuda_stream(ctx), elements, operation);
  };
  if (packs) {
    launch(loop_over_elements<N, Operation>, N);
  } else {
    launch(loop_over_elements<1, Operation>, 1);
  }
}

}  // namespace switchyard::cuda
