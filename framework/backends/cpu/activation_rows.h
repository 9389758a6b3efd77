// Activations as the float32 loops read and write them: float32 where they stand, bfloat16 through
// a buffer of floats that stays in a core's first-level cache. For the .cpp files of this folder.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backends/cpu/sgemm.h"
#include "backends/cpu/vector_loops.h"
#include "base/check.h"
#include "base/reused_memory.h"
#include "tensor/bfloat16.h"

namespace switchyard::cpu {

// Calls body(T{}) with the T that a dtype of activations stands for.
template <typename Body>
void with_activation(DType dtype, const Body& body) {
  if (dtype == DType::kBFloat16) {
    body(BFloat16{});
  } else {
    SWITCHYARD_CHECK(dtype == DType::kFloat32, "the cpu backend met ", name_of(dtype));
    body(float{});
  }
}

// The same in the loops' own terms.
inline const uint16_t* bits_of(const BFloat16* x) { return reinterpret_cast<const uint16_t*>(x); }
inline uint16_t* bits_of(BFloat16* x) { return reinterpret_cast<uint16_t*>(x); }

// n elements as floats: x itself, or widened into `buffer`.
inline const float* load(const VectorLoops&, int64_t, const float* x, float*) { return x; }
inline const float* load(const VectorLoops& loops, int64_t n, const BFloat16* x, float* buffer) {
  loops.widen(n, bits_of(x), buffer);
  return buffer;
}

// Where a loop puts floats that `store` then brings to y: y itself, or `buffer`.
inline float* target(float* y, float*) { return y; }
inline float* target(BFloat16*, float* buffer) { return buffer; }

// n floats to y, rounded where y is bfloat16.
inline void store(const VectorLoops&, int64_t n, const float* from, float* y) {
  if (from != y) std::copy_n(from, n, y);
}
inline void store(const VectorLoops& loops, int64_t n, const float* from, BFloat16* y) {
  loops.narrow(n, from, bits_of(y));
}

// [rows, columns] at a stride, as a product reads it: where it stands, or widened into `buffer`.
inline Matrix as_floats(const VectorLoops&, const float* x, int64_t stride, int64_t, int64_t,
                        float*) {
  return {x, stride};
}
inline Matrix as_floats(const VectorLoops& loops, const BFloat16* x, int64_t stride, int64_t rows,
                        int64_t columns, float* buffer) {
  for (int64_t row = 0; row < rows; ++row) {
    loops.widen(columns, bits_of(x + row * stride), buffer + row * columns);
  }
  return {buffer, columns};
}

// Floats needed to widen n elements of T.
template <typename T>
constexpr int64_t widened(int64_t n) {
  return std::is_same_v<T, float> ? 0 : n;
}

// A thread's floats for one row of bfloat16; none are needed for float32.
template <typename T>
class RowBuffer {
 public:
  explicit RowBuffer(int64_t columns) : floats_(static_cast<size_t>(widened<T>(columns))) {}
  float* data() { return floats_.data(); }

 private:
  ReusedVector<float> floats_;
};

// body(first, n) over [begin, end), in parts that are read and written through buffers of kStrip
// floats where T is bfloat16, in one piece where no buffers are needed.
inline constexpr int64_t kStrip = 512;
template <typename T, typename Body>
void over_strips(int64_t begin, int64_t end, const Body& body) {
  const int64_t part = std::is_same_v<T, float> ? std::max<int64_t>(end - begin, 1) : kStrip;
  for (int64_t first = begin; first < end; first += part) {
    body(first, std::min(part, end - first));
  }
}

}  // namespace switchyard::cpu
