#include <cmath>
#include <cstring>

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

void ReferenceKernels::gradient_of_sums(ExecContext&, Weight& weight) {
  // A gradient is half as wide as its sum: writing them in order overwrites no sum before it is
  // read.
  char* sums = static_cast<char*>(weight.ordered_sums().raw());
  for (int64_t i = 0; i < weight.shape().elements(); ++i) {
    int64_t sum = 0;
    std::memcpy(&sum, sums + i * 8, sizeof sum);
    const auto gradient =
        static_cast<float>(std::ldexp(static_cast<double>(sum), -kOrderedFractionBits));
    std::memcpy(sums + i * 4, &gradient, sizeof gradient);
  }
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

void ReferenceKernels::sgd(ExecContext&, const SgdStep& step, TensorView weight,
                           TensorView gradient, TensorView velocity) {
  reference::with_floating(weight.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T rate = static_cast<T>(step.learning_rate), decay = static_cast<T>(step.weight_decay);
    const T momentum = static_cast<T>(step.momentum);
    const T gradient_scale = static_cast<T>(step.gradient_scale);
    T* w = weight.data<T>();
    for (int64_t i = 0; i < weight.elements(); ++i) {
      const T g = gradient.data<T>()[i] * gradient_scale;
      T direction = g;
      if (!velocity.absent()) {
        T& v = velocity.data<T>()[i];
        v = momentum * v + g;
        direction = step.nesterov ? g + momentum * v : v;
      }
      w[i] -= rate * (direction + decay * w[i]);
    }
  });
}

namespace {

// The n-th of the tensors that Adafactor treats one by one, as a matrix; not factored, a single
// row.
template <typename T>
struct AdafactorMatrix {
  AdafactorMatrix(TensorView gradient, const AdafactorMoments& moments, int64_t n)
      : factored(!moments.columns.absent()),
        out(factored ? gradient.shape()[1] : 1),
        in(gradient.shape()[factored ? 2 : 1]),
        first(n * out * in),
        g(gradient.data<T>() + first),
        rows(moments.rows.data<T>() + n * (factored ? out : in)),
        columns(factored ? moments.columns.data<T>() + n * in : nullptr) {}

  // After the moments were updated.
  void set_mean() {
    mean = 0;
    for (int64_t o = 0; factored && o < out; ++o) mean += rows[o] / static_cast<T>(out);
  }
  T u(int64_t o, int64_t i, T gradient_scale) const {
    const T scaled = g[o * in + i] * gradient_scale;
    if (!factored) return scaled / std::sqrt(rows[i]);
    return scaled / std::sqrt(rows[o] / mean) / std::sqrt(columns[i]);
  }

  bool factored;
  int64_t out, in, first;
  const T* g;
  T *rows, *columns;
  T mean = 0;
};

template <typename T>
void update_moments(const AdafactorStep& step, AdafactorMatrix<T>& matrix) {
  const T old = static_cast<T>(step.decay), fresh = static_cast<T>(1 - step.decay);
  const auto square = [&](int64_t o, int64_t i) {
    const T g = matrix.g[o * matrix.in + i] * static_cast<T>(step.gradient_scale);
    return g * g + static_cast<T>(step.epsilon);
  };
  if (!matrix.factored) {
    for (int64_t i = 0; i < matrix.in; ++i) {
      matrix.rows[i] = old * matrix.rows[i] + fresh * square(0, i);
    }
    return;
  }
  for (int64_t o = 0; o < matrix.out; ++o) {
    T mean = 0;
    for (int64_t i = 0; i < matrix.in; ++i) mean += square(o, i) / static_cast<T>(matrix.in);
    matrix.rows[o] = old * matrix.rows[o] + fresh * mean;
  }
  for (int64_t i = 0; i < matrix.in; ++i) {
    T mean = 0;
    for (int64_t o = 0; o < matrix.out; ++o) mean += square(o, i) / static_cast<T>(matrix.out);
    matrix.columns[i] = old * matrix.columns[i] + fresh * mean;
  }
}

}  // namespace

void ReferenceKernels::adafactor_moments(ExecContext&, const AdafactorStep& step, TensorView weight,
                                         TensorView gradient, const AdafactorMoments& moments,
                                         TensorView sums) {
  reference::with_floating(weight.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t n = 0; n < weight.shape()[0]; ++n) {
      AdafactorMatrix<T> matrix(gradient, moments, n);
      update_moments(step, matrix);
      matrix.set_mean();
      const T* w = weight.data<T>() + matrix.first;
      double direction_squares = 0, weight_squares = 0;
      for (int64_t o = 0; o < matrix.out; ++o) {
        for (int64_t i = 0; i < matrix.in; ++i) {
          const auto u = static_cast<double>(matrix.u(o, i, static_cast<T>(step.gradient_scale)));
          const auto value = static_cast<double>(w[o * matrix.in + i]);
          direction_squares += u * u;
          weight_squares += value * value;
        }
      }
      sums.data<double>()[2 * n] = direction_squares;
      sums.data<double>()[2 * n + 1] = weight_squares;
    }
  });
}

void ReferenceKernels::adafactor_update(ExecContext&, double gradient_scale, double decay,
                                        TensorView step_sizes, TensorView weight,
                                        TensorView gradient, const AdafactorMoments& moments) {
  reference::with_floating(weight.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t n = 0; n < weight.shape()[0]; ++n) {
      AdafactorMatrix<T> matrix(gradient, moments, n);
      matrix.set_mean();
      const T step_size = static_cast<T>(step_sizes.data<double>()[n]);
      T* w = weight.data<T>() + matrix.first;
      for (int64_t o = 0; o < matrix.out; ++o) {
        for (int64_t i = 0; i < matrix.in; ++i) {
          T& value = w[o * matrix.in + i];
          const T u = matrix.u(o, i, static_cast<T>(gradient_scale));
          value -= step_size * u + static_cast<T>(decay) * value;
        }
      }
    }
  });
}

}  // namespace switchyard
