#include <algorithm>

#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/loop_random.h"

namespace switchyard {
namespace {

constexpr int64_t kStrip = 256;  // uniforms at a time; a multiple of 64

// body(begin, n, u) for strips of row t, u the uniforms of elements begin .. begin + n - 1.
template <typename Body>
void over_strips(const cpu::VectorLoops& loops, const RandomRows& random, int64_t t,
                 int64_t columns, const Body& body) {
  alignas(64) float u[kStrip];
  cpu::LoopRandom row = cpu::loop_random(random.key, random.token.data<int64_t>()[t], 0);
  for (int64_t begin = 0; begin < columns; begin += kStrip) {
    const int64_t n = std::min(kStrip, columns - begin);
    row.first_block = static_cast<uint32_t>(begin / 4);
    loops.uniform(&row, n, u);
    body(begin, n, u);
  }
}

}  // namespace

void CpuKernels::dropout(ExecContext&, TensorView x_view, double rate, const RandomRows& random,
                         TensorView y_view) {
  const int64_t columns = x_view.shape()[1];
  const float* x = x_view.data<float>();
  float* y = y_view.data<float>();
  const float threshold = static_cast<float>(rate), keep = static_cast<float>(1.0 / (1.0 - rate));
  team_.ranges(x_view.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      over_strips(loops_, random, t, columns, [&](int64_t first, int64_t n, float* u) {
        loops_.dropout(n, x + t * columns + first, u, threshold, keep, y + t * columns + first);
      });
    }
  });
}

void CpuKernels::jitter(ExecContext&, TensorView x_view, double epsilon, const RandomRows& random,
                        TensorView y_view) {
  const int64_t columns = x_view.shape()[1];
  const float* x = x_view.data<float>();
  float* y = y_view.data<float>();
  team_.ranges(x_view.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      over_strips(loops_, random, t, columns, [&](int64_t first, int64_t n, float* u) {
        loops_.jitter(n, x + t * columns + first, u, static_cast<float>(epsilon),
                      y + t * columns + first);
      });
    }
  });
}

}  // namespace switchyard
