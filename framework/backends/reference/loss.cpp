#include <cmath>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

void ReferenceKernels::cross_entropy(ExecContext&, TensorView logits_view, TensorView targets,
                                     double gradient_scale, TensorView losses,
                                     TensorView dlogits_view) {
  reference::with_activation(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> logits(logits_view);
    for (int64_t t = 0; t < logits.rows(); ++t) {
      const int32_t target = targets.data<int32_t>()[t];
      const bool ignored = target == kIgnoredTarget;
      SWITCHYARD_CHECK(ignored || (target >= 0 && target < logits.columns()), "target ", target,
                       " of ", logits.columns());
      const T* row = logits.row(t);
      const A largest = *std::max_element(row, row + logits.columns());
      A sum = 0;
      for (int64_t v = 0; v < logits.columns(); ++v) sum += std::exp(row[v] - largest);
      const A log_sum_exp = largest + std::log(sum);
      losses.data<double>()[t] = ignored ? 0.0 : static_cast<double>(log_sum_exp - row[target]);
      if (dlogits_view.absent()) continue;
      // In place where dlogits is logits: each element is read before it is written.
      T* drow = Matrix<T>(dlogits_view).row(t);
      for (int64_t v = 0; v < logits.columns(); ++v) {
        const A probability = std::exp(row[v] - log_sum_exp);
        const A gradient = static_cast<A>(gradient_scale) * (probability - (v == target ? 1 : 0));
        drow[v] = ignored ? T{} : static_cast<T>(gradient);
      }
    }
  });
}

}  // namespace switchyard
