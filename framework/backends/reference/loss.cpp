#include <cmath>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

void ReferenceKernels::cross_entropy(ExecContext&, const CrossEntropy& objective,
                                     TensorView logits_view, TensorView targets, TensorView losses,
                                     TensorView z_losses, TensorView dlogits_view) {
  reference::with_activation(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> logits(logits_view);
    const A scale = static_cast<A>(objective.gradient_scale);
    const A spread = static_cast<A>(objective.label_smoothing) / static_cast<A>(logits.columns());
    const A rest = static_cast<A>(1 - objective.label_smoothing);
    const A z = static_cast<A>(objective.z);
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
      if (!z_losses.absent()) {
        const A z_loss = z * log_sum_exp * log_sum_exp;
        z_losses.data<double>()[t] = ignored ? 0.0 : static_cast<double>(z_loss);
      }
      if (dlogits_view.absent()) continue;
      // In place where dlogits is logits: each element is read before it is written.
      T* drow = Matrix<T>(dlogits_view).row(t);
      for (int64_t v = 0; v < logits.columns(); ++v) {
        const A probability = std::exp(row[v] - log_sum_exp);
        const A wanted = (v == target ? rest : A{0}) + spread;
        const A gradient = scale * ((1 + 2 * z * log_sum_exp) * probability - wanted);
        drow[v] = ignored ? T{} : static_cast<T>(gradient);
      }
    }
  });
}

}  // namespace switchyard
