#include <algorithm>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/loop_random.h"

namespace switchyard {
namespace {

constexpr int64_t kUniforms = 256;  // at a time; a multiple of 64

// y = apply(n, x, u, y) on strips of rows, u the uniforms of the strip's elements.
template <typename Apply>
void for_each_strip(cpu::Team& team, const cpu::VectorLoops& loops, TensorView x_view,
                    const RandomRows& random, TensorView y_view, const Apply& apply) {
  const int64_t columns = x_view.shape()[1];
  // Numbers come in blocks of four: those of the first block that lie before the first column.
  const int64_t before = random.first_column % 4;
  cpu::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = x_view.data<T>();
    T* y = y_view.data<T>();
    team.ranges(x_view.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
      alignas(64) float u[kUniforms + 64], strip[kUniforms];
      for (int64_t t = begin; t < end; ++t) {
        const int64_t name = random.token.data<int64_t>()[t];
        cpu::LoopRandom row = cpu::loop_random(random.key, token_of(name), choice_of(name));
        for (int64_t first = 0; first < columns; first += kUniforms) {
          const int64_t n = std::min(kUniforms, columns - first), at = t * columns + first;
          row.first_block = static_cast<uint32_t>((random.first_column + first) / 4);
          loops.uniform(&row, before + n, u);
          float* result = cpu::target(y + at, strip);
          apply(n, cpu::load(loops, n, x + at, strip), u + before, result);
          cpu::store(loops, n, result, y + at);
        }
      }
    });
  });
}

}  // namespace

void CpuKernels::dropout(ExecContext&, TensorView x, double rate, const RandomRows& random,
                         TensorView y) {
  const float threshold = static_cast<float>(rate), keep = static_cast<float>(1.0 / (1.0 - rate));
  for_each_strip(team_, loops_, x, random, y,
                 [&](int64_t n, const float* from, float* u, float* to) {
                   loops_.dropout(n, from, u, threshold, keep, to);
                 });
}

void CpuKernels::jitter(ExecContext&, TensorView x, double epsilon, const RandomRows& random,
                        TensorView y) {
  for_each_strip(team_, loops_, x, random, y,
                 [&](int64_t n, const float* from, float* u, float* to) {
                   loops_.jitter(n, from, u, static_cast<float>(epsilon), to);
                 });
}

void CpuKernels::uniform(ExecContext&, const RandomRows& random, TensorView y) {
  for_each_strip(team_, loops_, y, random, y,
                 [](int64_t n, const float*, float* u, float* to) { std::copy_n(u, n, to); });
}

}  // namespace switchyard
