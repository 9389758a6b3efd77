#include "collectives/nccl/max_keys.h"

#include <type_traits>

#include "backends/cuda/gpu_port.h"
#include "base/check.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;

// Of positive numbers the bits ascend with the number, of negative ones the bits but for the sign
// descend. Applied twice it changes nothing.
template <typename Key>
__host__ __device__ Key turned(Key key) {
  using Bits = std::make_unsigned_t<Key>;
  return key < 0 ? static_cast<Key>(static_cast<Bits>(key) ^ (~Bits{0} >> 1)) : key;
}

template <typename Key, Key kInfinity, Key kLargest>
__global__ void to_keys_kernel(Key* numbers, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const Key key = numbers[i];
  const bool is_nan = (key & kLargest) > kInfinity;
  numbers[i] = is_nan ? kLargest : turned(key);
}

// The largest key has the bits of a NaN.
template <typename Key>
__global__ void from_keys_kernel(Key* keys, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) keys[i] = turned(keys[i]);
}

int64_t blocks_of(TensorView x) { return (x.elements() + kThreads - 1) / kThreads; }

}  // namespace

void to_max_keys(TensorView x, cudaStream_t stream) {
  if (x.dtype() == DType::kFloat32) {
    gpu_launch(to_keys_kernel<int32_t, 0x7F800000, 0x7FFFFFFF>, blocks_of(x), kThreads, 0, stream,
               static_cast<int32_t*>(x.raw()), x.elements());
  } else {
    SWITCHYARD_CHECK(x.dtype() == DType::kFloat64, "keys of ", name_of(x.dtype()));
    gpu_launch(to_keys_kernel<int64_t, 0x7FF0000000000000, 0x7FFFFFFFFFFFFFFF>, blocks_of(x),
               kThreads, 0, stream, static_cast<int64_t*>(x.raw()), x.elements());
  }
}

void from_max_keys(TensorView x, cudaStream_t stream) {
  if (x.dtype() == DType::kFloat32) {
    gpu_launch(from_keys_kernel<int32_t>, blocks_of(x), kThreads, 0, stream,
               static_cast<int32_t*>(x.raw()), x.elements());
  } else {
    SWITCHYARD_CHECK(x.dtype() == DType::kFloat64, "keys of ", name_of(x.dtype()));
    gpu_launch(from_keys_kernel<int64_t>, blocks_of(x), kThreads, 0, stream,
               static_cast<int64_t*>(x.raw()), x.elements());
  }
}

}  // namespace switchyard::cuda
