#include <algorithm>
#include <cmath>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

void CpuKernels::cross_entropy(ExecContext&, const CrossEntropy& objective, TensorView logits_view,
                               TensorView targets_view, TensorView losses_view,
                               TensorView z_losses_view, TensorView dlogits_view) {
  const int64_t classes = logits_view.shape()[1];
  const int32_t* targets = targets_view.data<int32_t>();
  double* losses = losses_view.data<double>();
  double* z_losses = z_losses_view.absent() ? nullptr : z_losses_view.data<double>();
  const double smoothing = objective.label_smoothing;
  const float target_share = static_cast<float>(objective.gradient_scale * (1 - smoothing));
  const float spread =
      static_cast<float>(objective.gradient_scale * smoothing / static_cast<double>(classes));
  cpu::with_activation(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* logits = logits_view.data<T>();
    T* dlogits = dlogits_view.absent() ? nullptr : dlogits_view.data<T>();
    team_.ranges(logits_view.shape()[0], 4 * classes, [&](int64_t begin, int64_t end) {
      cpu::RowBuffer<T> buffer(classes);
      for (int64_t t = begin; t < end; ++t) {
        T* gradient_row = dlogits == nullptr ? nullptr : dlogits + t * classes;
        const int32_t target = targets[t];
        if (target == kIgnoredTarget) {
          losses[t] = 0;
          if (z_losses != nullptr) z_losses[t] = 0;
          if (gradient_row != nullptr) std::fill_n(gradient_row, classes, T{});
          continue;
        }
        SWITCHYARD_CHECK(target >= 0 && target < classes, "target ", target, " of ", classes);
        const float* row = cpu::load(loops_, classes, logits + t * classes, buffer.data());
        const double at_target = static_cast<double>(row[target]);  // the gradient may replace it
        float* gradient =
            gradient_row == nullptr ? nullptr : cpu::target(gradient_row, buffer.data());
        float max = 0;
        const float sum = loops_.exp_sum(classes, row, gradient, &max);
        const double log_sum = std::log(static_cast<double>(sum));
        losses[t] = static_cast<double>(max) - at_target + log_sum;
        const double log_sum_exp = static_cast<double>(max) + log_sum;
        if (z_losses != nullptr) z_losses[t] = objective.z * log_sum_exp * log_sum_exp;
        if (gradient == nullptr) continue;
        const double factor = objective.gradient_scale * (1 + 2 * objective.z * log_sum_exp);
        loops_.scale(classes, gradient, static_cast<float>(factor) / sum, gradient);
        if (spread != 0) {
          for (int64_t v = 0; v < classes; ++v) gradient[v] -= spread;
        }
        gradient[target] -= target_share;
        cpu::store(loops_, classes, gradient, gradient_row);
      }
    });
  });
}

}  // namespace switchyard
