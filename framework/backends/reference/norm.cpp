#include <cmath>

#include "backends/reference/gradient_sink.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

void ReferenceKernels::rms_norm(ExecContext&, TensorView x_view, const Weight& weight,
                                double epsilon, NormRounding rounding, TensorView y_view,
                                TensorView inverse_rms) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> x(x_view), y(y_view);
    const A* w = weight.master().template data<A>();
    for (int64_t t = 0; t < x.rows(); ++t) {
      A sum = 0;
      for (int64_t d = 0; d < x.columns(); ++d) sum += x(t, d) * x(t, d);
      const A mean = sum / static_cast<A>(x.columns());
      const A inverse = 1 / std::sqrt(mean + static_cast<A>(epsilon));
      inverse_rms.data<A>()[t] = inverse;
      for (int64_t d = 0; d < x.columns(); ++d) {
        A normed = x(t, d) * inverse;
        if (rounding == NormRounding::kBeforeWeight)
          normed = static_cast<A>(static_cast<T>(normed));
        y(t, d) = static_cast<T>(normed * w[d]);
      }
    }
  });
}

// With r = inverse_rms: y_d = x_d r w_d and dr/dx_d = -r^3 x_d / D.
void ReferenceKernels::rms_norm_backward(ExecContext& ctx, TensorView x_view,
                                         TensorView inverse_rms, TensorView dy_view,
                                         LeafOffsets leaves, TensorView dx_view, Write write,
                                         Weight& weight) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> x(x_view), dy(dy_view), dx(dx_view);
    const A* w = weight.master().template data<A>();
    reference::GradientSink<A> sink(ctx, weight);
    const auto dw = sink.whole();
    const auto backward_of_row = [&](int64_t t) {
      const A inverse = inverse_rms.data<A>()[t];
      A dinverse = 0;
      for (int64_t d = 0; d < x.columns(); ++d) {
        dinverse += dy(t, d) * w[d] * x(t, d);
        dw(0, d) += dy(t, d) * x(t, d) * inverse;
      }
      const A through_mean = dinverse * inverse * inverse * inverse / static_cast<A>(x.columns());
      for (int64_t d = 0; d < x.columns(); ++d) {
        const A value = dy(t, d) * w[d] * inverse - x(t, d) * through_mean;
        dx(t, d) = static_cast<T>(write == Write::kOverwrite ? value : dx(t, d) + value);
      }
    };
    for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
      for (int64_t t = leaves[leaf]; t < leaves[leaf + 1]; ++t) backward_of_row(t);
      sink.end_part();
    }
  });
}

}  // namespace switchyard
