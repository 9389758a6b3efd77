#include <vector>

#include "backends/reference/activation.h"
#include "backends/reference/gradient_sink.h"
#include "backends/reference/products.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

void ReferenceKernels::linear(ExecContext&, TensorView x_view, const Weight& weight,
                              TensorView y_view, const Epilogue& epilogue) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), y(y_view);
    const Matrix<Accurate<T>> w(weight.master());
    for (int64_t t = 0; t < y.rows(); ++t) {
      for (int64_t n = 0; n < y.columns(); ++n) {
        const Accurate<T> sum = reference::dot_row<T>(w, n, x.row(t));
        if (!epilogue.saved_pre_activation.absent()) {
          Matrix<T>(epilogue.saved_pre_activation)(t, n) = static_cast<T>(sum);
        }
        y(t, n) = static_cast<T>(reference::activate(epilogue.activation, sum));
      }
    }
  });
}

void ReferenceKernels::linear_input_gradient(ExecContext&, TensorView dy_view, const Weight& weight,
                                             TensorView dx_view, Write write) {
  reference::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> dy(dy_view), dx(dx_view);
    const Matrix<Accurate<T>> w(weight.master());
    std::vector<Accurate<T>> row(static_cast<size_t>(w.columns()));
    for (int64_t t = 0; t < dx.rows(); ++t) {
      reference::input_gradient_row<T>(dy.row(t), w, row.data());
      for (int64_t k = 0; k < dx.columns(); ++k) {
        dx(t, k) = static_cast<T>(write == Write::kOverwrite ? row[k] : dx(t, k) + row[k]);
      }
    }
  });
}

void ReferenceKernels::linear_weight_gradient(ExecContext& ctx, TensorView x_view,
                                              TensorView dy_view, LeafOffsets leaves,
                                              Weight& weight) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), dy(dy_view);
    reference::GradientSink<Accurate<T>> sink(ctx, weight);
    for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
      for (int64_t t = leaves[leaf]; t < leaves[leaf + 1]; ++t) {
        reference::add_outer_product<T>(dy.row(t), x.row(t), sink.whole());
      }
      sink.end_part();
    }
  });
}

}  // namespace switchyard
