// What the kernels of this folder share: element types, 16-byte vectors, reductions of a fixed
// order and grid sizes. For .cu files.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>

#include "backends/cuda/cuda_context.h"
#include "backends/cuda/gpu_port.h"
#include "tensor/dtype.h"

namespace switchyard {

template <>
struct DTypeOf<__nv_bfloat16> {
  static constexpr DType value = DType::kBFloat16;
};

namespace cuda {

inline constexpr int kWarpLanes = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// Calls body.operator()<T>() with the element type of a tensor of activations.
template <typename Body>
void with_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body.template operator()<float>();
    case DType::kBFloat16:
      return body.template operator()<__nv_bfloat16>();
    default:
      SWITCHYARD_CHECK(false, "no CUDA kernels for ", name_of(dtype));
  }
}

__host__ __device__ inline float to_float(float x) { return x; }
__host__ __device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounded to the nearest, ties to even.
template <typename T>
__host__ __device__ inline T from_float(float x) {
  if constexpr (std::same_as<T, float>) {
    return x;
  } else {
    return __float2bfloat16_rn(x);
  }
}

// What a 16-byte load or store moves.
template <typename T>
inline constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));

template <typename T>
struct alignas(16) Vector {
  T values[kVectorElements<T>];
};

// `from` is aligned to 16 bytes.
template <typename T>
__device__ inline Vector<T> load_vector(const T* from) {
  return *reinterpret_cast<const Vector<T>*>(from);
}
template <typename T>
__device__ inline void store_vector(T* to, const Vector<T>& vector) {
  *reinterpret_cast<Vector<T>*>(to) = vector;
}

// Whether rows of `columns` elements that begin at `data` can be read in 16-byte vectors.
template <typename T>
bool fits_vectors(const T* data, int64_t columns) {
  return columns % kVectorElements<T> == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

// The result is every lane's; all 32 lanes call.
template <typename T>
__device__ inline T warp_sum(T x) {
#pragma unroll
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, offset);
  }
  return x;
}
template <typename T>
__device__ inline T warp_max(T x) {
#pragma unroll
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// The result is every thread's; all kThreads of a one-dimensional block call. Barriers inside.
template <int kThreads, typename T>
__device__ inline T block_sum(T x) {
  static_assert(kThreads % kWarpLanes == 0);
  constexpr int kWarps = kThreads / kWarpLanes;
  GPU_SHARED(T, partial, kWarps);
  x = warp_sum(x);
  if (threadIdx.x % kWarpLanes == 0) partial[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  T sum = partial[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) sum += partial[warp];
  __syncthreads();
  return sum;
}
template <int kThreads, typename T>
__device__ inline T block_max(T x) {
  static_assert(kThreads % kWarpLanes == 0);
  constexpr int kWarps = kThreads / kWarpLanes;
  GPU_SHARED(T, partial, kWarps);
  x = warp_max(x);
  if (threadIdx.x % kWarpLanes == 0) partial[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  T most = partial[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) most = partial[warp] > most ? partial[warp] : most;
  __syncthreads();
  return most;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `items` of which each block does `per_block`; 0 for none, which launches nothing.
inline unsigned blocks_for(int64_t items, int64_t per_block) {
  const int64_t blocks = ceil_div(items, per_block);
  SWITCHYARD_CHECK(blocks <= std::numeric_limits<int32_t>::max(), blocks, " blocks of a kernel");
  return static_cast<unsigned>(blocks);
}
// The same for kernels that stride over the grid: no more blocks than fill a large device.
inline unsigned striding_blocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned>(std::min<int64_t>(ceil_div(items, per_block), 4096));
}

}  // namespace cuda
}  // namespace switchyard
