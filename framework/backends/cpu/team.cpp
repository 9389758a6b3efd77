#include "backends/cpu/team.h"

#include <omp.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace switchyard::cpu {

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
  if (buffer.elements() < floats) buffer = Tensor(DType::kFloat32, {floats});
  return buffer.data<float>();
}

}  // namespace switchyard::cpu
