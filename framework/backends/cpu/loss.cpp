#include <algorithm>
#include <cmath>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

void CpuKernels::cross_entropy(ExecContext&, TensorView logits_view, TensorView targets_view,
                               double gradient_scale, TensorView losses_view,
                               TensorView dlogits_view) {
  const int64_t classes = logits_view.shape()[1];
  const float* logits = logits_view.data<float>();
  const int32_t* targets = targets_view.data<int32_t>();
  double* losses = losses_view.data<double>();
  float* dlogits = dlogits_view.absent() ? nullptr : dlogits_view.data<float>();
  const float factor = static_cast<float>(gradient_scale);
  team_.ranges(logits_view.shape()[0], 4 * classes, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* gradient = dlogits == nullptr ? nullptr : dlogits + t * classes;
      const int32_t target = targets[t];
      if (target == kIgnoredTarget) {
        losses[t] = 0;
        if (gradient != nullptr) std::fill_n(gradient, classes, 0.0f);
        continue;
      }
      SWITCHYARD_CHECK(target >= 0 && target < classes, "target ", target, " of ", classes);
      const float* row = logits + t * classes;
      const double at_target = static_cast<double>(row[target]);  // the gradient may replace it
      float max = 0;
      const float sum = loops_.exp_sum(classes, row, gradient, &max);
      losses[t] = static_cast<double>(max) - at_target + std::log(static_cast<double>(sum));
      if (gradient == nullptr) continue;
      loops_.scale(classes, gradient, factor / sum, gradient);
      gradient[target] -= factor;
    }
  });
}

}  // namespace switchyard
