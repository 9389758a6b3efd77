#include "backends/cpu/team.h"

#include <omp.h>

#include <bit>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace switchyard::cpu {

static constexpr int64_t kLeastFloats = 16384;

static void prepare_thread() {
  // oneDNN is called from inside the team and must not start threads of its own.
  omp_set_num_threads(1);
#if defined(__SSE2__)
  // Subnormal numbers count as 0. Each one costs a microcode assist of some hundred cycles, and
  // softmax makes them by the million once a model is sure of itself: a step took 2.5 times as long
  // after a thousand steps as at the start.
  constexpr unsigned kFlushToZero = 0x8000, kSubnormalsAreZero = 0x0040;
  _mm_setcsr(_mm_getcsr() | kFlushToZero | kSubnormalsAreZero);
#endif
}

Team::Team(int threads) : pool_(threads, prepare_thread), buffers_(static_cast<size_t>(threads)) {}

float* Team::buffer(int thread, int64_t floats) {
  Tensor& buffer = buffers_[static_cast<size_t>(thread)];
  if (buffer.elements() >= floats) return buffer.data<float>();
  // Doubled, so that lengths which differ a little from step to step end its growth soon.
  const auto doubled = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(floats)));
  buffer = Tensor(DType::kFloat32, {std::max(doubled, kLeastFloats)});
  int64_t largest = buffer_floats_.load();
  while (largest < buffer.elements() &&
         !buffer_floats_.compare_exchange_weak(largest, buffer.elements())) {
  }
  return buffer.data<float>();
}

void Team::grow_buffers() {
  even_floats_ = buffer_floats_.load();
  for (Tensor& buffer : buffers_) {
    if (buffer.elements() < even_floats_) buffer = Tensor(DType::kFloat32, {even_floats_});
  }
}

}  // namespace switchyard::cpu
