#include <vector>

#include "backends/reference/activation.h"
#include "backends/reference/products.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Matrix;

void ReferenceKernels::linear(ExecContext&, TensorView x_view, const Weight& weight,
                              TensorView y_view, const Epilogue& epilogue) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), w(weight.master()), y(y_view);
    for (int64_t t = 0; t < y.rows(); ++t) {
      for (int64_t n = 0; n < y.columns(); ++n) {
        const T sum = reference::dot_row(w, n, x.row(t));
        if (!epilogue.saved_pre_activation.absent()) {
          Matrix<T>(epilogue.saved_pre_activation)(t, n) = sum;
        }
        y(t, n) = reference::activate(epilogue.activation, sum);
      }
    }
  });
}

void ReferenceKernels::linear_input_gradient(ExecContext&, TensorView dy_view, const Weight& weight,
                                             TensorView dx_view, Write write) {
  reference::with_floating(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> dy(dy_view), w(weight.master()), dx(dx_view);
    std::vector<T> row(static_cast<size_t>(w.columns()));
    for (int64_t t = 0; t < dx.rows(); ++t) {
      reference::input_gradient_row(dy.row(t), w, row.data());
      for (int64_t k = 0; k < dx.columns(); ++k) {
        dx(t, k) = write == Write::kOverwrite ? row[k] : dx(t, k) + row[k];
      }
    }
  });
}

void ReferenceKernels::linear_weight_gradient(ExecContext& ctx, TensorView x_view,
                                              TensorView dy_view, LeafOffsets, Weight& weight) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), dy(dy_view);
    const Matrix<T> dw = reference::gradient_to_add_to<T>(ctx, weight);
    for (int64_t t = 0; t < x.rows(); ++t) {
      reference::add_outer_product(dy.row(t), x.row(t), dw);
    }
  });
}

}  // namespace switchyard
