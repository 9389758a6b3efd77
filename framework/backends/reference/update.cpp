#include <cmath>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

void ReferenceKernels::sum_of_squares(ExecContext&, TensorView x, TensorView sum) {
  reference::with_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    double total = 0;
    for (int64_t i = 0; i < x.elements(); ++i) {
      const double value = static_cast<double>(x.data<T>()[i]);
      total += value * value;
    }
    sum.data<double>()[0] = total;
  });
}

void ReferenceKernels::adamw(ExecContext&, const AdamWStep& step, TensorView weight,
                             TensorView gradient, TensorView first, TensorView second) {
  reference::with_floating(weight.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const double count = static_cast<double>(step.step);
    const T correction1 = static_cast<T>(1 / (1 - std::pow(step.beta1, count)));
    const T correction2 = static_cast<T>(1 / (1 - std::pow(step.beta2, count)));
    const T beta1 = static_cast<T>(step.beta1), rest1 = static_cast<T>(1 - step.beta1);
    const T beta2 = static_cast<T>(step.beta2), rest2 = static_cast<T>(1 - step.beta2);
    const T epsilon = static_cast<T>(step.epsilon);
    const T rate = static_cast<T>(step.learning_rate), decay = static_cast<T>(step.weight_decay);
    const T gradient_scale = static_cast<T>(step.gradient_scale);
    T *w = weight.data<T>(), *m = first.data<T>(), *v = second.data<T>();
    for (int64_t i = 0; i < weight.elements(); ++i) {
      const T g = gradient.data<T>()[i] * gradient_scale;
      m[i] = beta1 * m[i] + rest1 * g;
      v[i] = beta2 * v[i] + rest2 * g * g;
      const T direction = m[i] * correction1 / (std::sqrt(v[i] * correction2) + epsilon);
      w[i] -= rate * (direction + decay * w[i]);
    }
  });
}

}  // namespace switchyard
