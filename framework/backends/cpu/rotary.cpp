#include <cmath>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "base/reused_memory.h"

namespace switchyard {

void CpuKernels::rotary_table(ExecContext&, TensorView position_view, double theta,
                              TensorView table_view) {
  const int64_t width = table_view.shape()[1], half = width / 2;
  const int32_t* position = position_view.data<int32_t>();
  float* table = table_view.data<float>();
  ReusedVector<float> frequency(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    frequency[static_cast<size_t>(i)] = rotary_frequency(i, width, theta);
  }
  constexpr int64_t kSineCost = 32;  // in elements touched
  team_.ranges(table_view.shape()[0], kSineCost * width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = table + t * width;
      for (int64_t i = 0; i < half; ++i) {
        const float angle = frequency[static_cast<size_t>(i)] * static_cast<float>(position[t]);
        row[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
        row[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
      }
    }
  });
}

void CpuKernels::rotate(ExecContext&, TensorView x_view, TensorView table_view, Rotation rotation,
                        TensorView y_view) {
  const int64_t heads = x_view.shape()[1], width = x_view.shape()[2];
  const float* table = table_view.data<float>();
  const float sign = rotation == Rotation::kForward ? 1.0F : -1.0F;
  cpu::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = x_view.data<T>();
    T* y = y_view.data<T>();
    team_.ranges(x_view.shape()[0], 4 * heads * width, [&](int64_t begin, int64_t end) {
      cpu::RowBuffer<T> buffer(width);
      for (int64_t row = begin * heads; row < end * heads; ++row) {
        float* turned = cpu::target(y + row * width, buffer.data());
        loops_.rotate(width / 2, cpu::load(loops_, width, x + row * width, buffer.data()),
                      table + row / heads * width, sign, turned);
        cpu::store(loops_, width, turned, y + row * width);
      }
    });
  });
}

}  // namespace switchyard
