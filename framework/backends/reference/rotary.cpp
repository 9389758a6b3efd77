#include <cmath>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

void ReferenceKernels::rotary_table(ExecContext&, TensorView position_view, double theta,
                                    TensorView table_view) {
  reference::with_floating(table_view.dtype(), [&](auto zero) {
    using A = decltype(zero);
    const Matrix<A> table(table_view);
    const int32_t* position = position_view.data<int32_t>();
    const int64_t width = table.columns(), half = width / 2;
    for (int64_t t = 0; t < table.rows(); ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const float angle = rotary_frequency(i, width, theta) * static_cast<float>(position[t]);
        table(t, i) = static_cast<A>(std::cos(static_cast<double>(angle)));
        table(t, half + i) = static_cast<A>(std::sin(static_cast<double>(angle)));
      }
    }
  });
}

void ReferenceKernels::rotate(ExecContext&, TensorView x_view, TensorView table_view,
                              Rotation rotation, TensorView y_view) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> x(x_view), y(y_view);  // a head a row
    const Matrix<A> table(table_view);
    const int64_t heads = x_view.shape()[1], half = x.columns() / 2;
    for (int64_t row = 0; row < x.rows(); ++row) {
      const int64_t t = row / heads;
      for (int64_t i = 0; i < half; ++i) {
        const A cosine = table(t, i);
        const A sine = rotation == Rotation::kForward ? table(t, half + i) : -table(t, half + i);
        const A first = x(row, i), second = x(row, half + i);
        y(row, i) = static_cast<T>(first * cosine - second * sine);
        y(row, half + i) = static_cast<T>(second * cosine + first * sine);
      }
    }
  });
}

}  // namespace switchyard
