// GatingOps, first half: scores, noise and losses, with their gradients.
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Matrix;

template <typename T>
void put(T& place, T value, Write write) {
  place = write == Write::kOverwrite ? value : place + value;
}

template <typename T>
T sigmoid_of(T x) {
  return 1 / (1 + std::exp(-x));
}

template <typename T>
T softplus_of(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}

template <typename T>
T row_sum(const Matrix<T>& x, int64_t t) {
  return std::accumulate(x.row(t), x.row(t) + x.columns(), T{0});
}

// random_normal keyed by (row's token, its choice, column).
double normal_at(const RandomRows& random, int64_t t, int64_t e) {
  const int64_t row = random.token.data<int64_t>()[t];
  return random_normal(random.key, token_of(row), choice_of(row),
                       static_cast<uint32_t>(random.first_column + e));
}

}  // namespace

void ReferenceKernels::sigmoid(ExecContext&, TensorView logits, TensorView scores) {
  reference::with_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::transform(logits.data<T>(), logits.data<T>() + logits.elements(), scores.data<T>(),
                   sigmoid_of<T>);
  });
}

void ReferenceKernels::sigmoid_backward(ExecContext&, TensorView scores, TensorView dscores,
                                        TensorView dlogits, Write write) {
  reference::with_floating(scores.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < scores.elements(); ++i) {
      const T s = scores.data<T>()[i];
      put(dlogits.data<T>()[i], dscores.data<T>()[i] * s * (1 - s), write);
    }
  });
}

void ReferenceKernels::normalize_rows(ExecContext&, TensorView x_view, double factor,
                                      TensorView y_view) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), y(y_view);
    for (int64_t t = 0; t < x.rows(); ++t) {
      const T sum = row_sum(x, t);
      for (int64_t j = 0; j < x.columns(); ++j) {
        y(t, j) = sum == 0 ? T{0} : static_cast<T>(factor) * x(t, j) / sum;
      }
    }
  });
}

void ReferenceKernels::normalize_rows_backward(ExecContext&, TensorView x_view, double factor,
                                               TensorView dy_view, TensorView dx_view,
                                               Write write) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), dy(dy_view), dx(dx_view);
    for (int64_t t = 0; t < x.rows(); ++t) {
      const T sum = row_sum(x, t);
      T mean = 0;  // of dy, weighted by shares of the sum
      for (int64_t j = 0; j < x.columns() && sum != 0; ++j) mean += dy(t, j) * x(t, j) / sum;
      for (int64_t j = 0; j < x.columns(); ++j) {
        const T slope = sum == 0 ? T{0} : static_cast<T>(factor) * (dy(t, j) - mean) / sum;
        put(dx(t, j), slope, write);
      }
    }
  });
}

void ReferenceKernels::add_row(ExecContext&, TensorView x_view, TensorView row, TensorView y_view) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), y(y_view);
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t j = 0; j < x.columns(); ++j) y(t, j) = x(t, j) + row.data<T>()[j];
    }
  });
}

void ReferenceKernels::add_noise(ExecContext&, TensorView logits_view, TensorView noise_logits_view,
                                 const RandomRows& random, TensorView noisy_view) {
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), noise_logits(noise_logits_view), noisy(noisy_view);
    for (int64_t t = 0; t < logits.rows(); ++t) {
      for (int64_t e = 0; e < logits.columns(); ++e) {
        const T n = static_cast<T>(normal_at(random, t, e));
        noisy(t, e) = logits(t, e) + n * softplus_of(noise_logits(t, e));
      }
    }
  });
}

void ReferenceKernels::add_noise_backward(ExecContext&, TensorView noise_logits_view,
                                          const RandomRows& random, TensorView dnoisy_view,
                                          TensorView dnoise_logits_view, Write write) {
  reference::with_floating(noise_logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> noise_logits(noise_logits_view), dnoisy(dnoisy_view);
    const Matrix<T> dnoise_logits(dnoise_logits_view);
    for (int64_t t = 0; t < noise_logits.rows(); ++t) {
      for (int64_t e = 0; e < noise_logits.columns(); ++e) {
        const T n = static_cast<T>(normal_at(random, t, e));
        put(dnoise_logits(t, e), dnoisy(t, e) * n * sigmoid_of(noise_logits(t, e)), write);
      }
    }
  });
}

namespace {

// Column of the K-th largest of a row without column e, ties to the lower column.
template <typename T>
int64_t threshold_column(const Matrix<T>& noisy, int64_t t, int64_t e, int64_t choices) {
  std::vector<int64_t> others;
  for (int64_t i = 0; i < noisy.columns(); ++i) {
    if (i != e) others.push_back(i);
  }
  std::stable_sort(others.begin(), others.end(),
                   [&](int64_t i, int64_t j) { return noisy(t, i) > noisy(t, j); });
  return others[static_cast<size_t>(choices) - 1];
}

template <typename T>
T deviation_of(T noise_logit) {
  return std::max(softplus_of(noise_logit), std::numeric_limits<T>::min());
}

}  // namespace

void ReferenceKernels::smooth_load(ExecContext&, TensorView logits_view,
                                   TensorView noise_logits_view, TensorView noisy_view,
                                   int64_t choices, TensorView load_view) {
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), noise_logits(noise_logits_view), noisy(noisy_view);
    const Matrix<T> load(load_view);
    for (int64_t t = 0; t < logits.rows(); ++t) {
      for (int64_t e = 0; e < logits.columns(); ++e) {
        load(t, e) = 1;
        if (choices == logits.columns()) continue;
        const T threshold = noisy(t, threshold_column(noisy, t, e, choices));
        const T z = (logits(t, e) - threshold) / deviation_of(noise_logits(t, e));
        load(t, e) = T{0.5} * std::erfc(-z * static_cast<T>(M_SQRT1_2));  // Phi(z)
      }
    }
  });
}

void ReferenceKernels::smooth_load_backward(ExecContext& ctx, TensorView logits_view,
                                            TensorView noise_logits_view, TensorView noisy_view,
                                            int64_t choices, TensorView dload_view,
                                            TensorView dlogits_view, TensorView dnoise_logits_view,
                                            TensorView dnoisy_view, Write write) {
  if (write == Write::kOverwrite) {
    for (TensorView gradient : {dlogits_view, dnoise_logits_view, dnoisy_view}) {
      fill_zero(ctx, gradient);
    }
  }
  if (choices == logits_view.shape()[1]) return;
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), noise_logits(noise_logits_view), noisy(noisy_view);
    const Matrix<T> dload(dload_view), dlogits(dlogits_view), dnoisy(dnoisy_view);
    const Matrix<T> dnoise_logits(dnoise_logits_view);
    for (int64_t t = 0; t < logits.rows(); ++t) {
      for (int64_t e = 0; e < logits.columns(); ++e) {
        const int64_t column = threshold_column(noisy, t, e, choices);
        const T deviation = deviation_of(noise_logits(t, e));
        const T z = (logits(t, e) - noisy(t, column)) / deviation;
        const T density = std::exp(T{-0.5} * z * z) * static_cast<T>(M_2_SQRTPI * M_SQRT1_2 / 2);
        if (density == 0) continue;  // z may be infinite
        const T slope = dload(t, e) * density / deviation;
        dlogits(t, e) += slope;
        dnoisy(t, column) -= slope;
        dnoise_logits(t, e) -= slope * z * sigmoid_of(noise_logits(t, e));
      }
    }
  });
}

namespace {

// Sums of values over a group's tokens, [N].
template <typename T>
std::vector<double> group_sums(const Matrix<T>& values, TensorView mask, int64_t begin,
                               int64_t end) {
  std::vector<double> sums(static_cast<size_t>(values.columns()), 0.0);
  for (int64_t t = begin; t < end; ++t) {
    if (!reference::is_in(mask, t)) continue;
    for (int64_t j = 0; j < values.columns(); ++j) sums[j] += static_cast<double>(values(t, j));
  }
  return sums;
}

struct Moments {
  double mean, variance;
};

Moments moments_of(const std::vector<double>& sums) {
  const auto count = static_cast<double>(sums.size());
  const double mean = std::accumulate(sums.begin(), sums.end(), 0.0) / count;
  double squares = 0;
  for (const double sum : sums) squares += (sum - mean) * (sum - mean);
  return {mean, squares / count};
}

}  // namespace

void ReferenceKernels::cv_squared(ExecContext&, TensorView values_view, TensorView mask,
                                  LeafOffsets groups, TensorView cv) {
  reference::with_floating(values_view.dtype(), [&](auto zero) {
    const Matrix<decltype(zero)> values(values_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      const auto [mean, variance] = moments_of(group_sums(values, mask, groups[g], groups[g + 1]));
      cv.data<double>()[g] = mean == 0 ? 0 : variance / (mean * mean);
    }
  });
}

void ReferenceKernels::cv_squared_gradient(ExecContext&, TensorView values_view, TensorView mask,
                                           LeafOffsets groups, double factor,
                                           TensorView dvalues_view) {
  reference::with_floating(values_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> values(values_view), dvalues(dvalues_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      const std::vector<double> sums = group_sums(values, mask, groups[g], groups[g + 1]);
      const auto [mean, variance] = moments_of(sums);
      if (mean == 0) continue;
      for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
        if (!reference::is_in(mask, t)) continue;
        for (int64_t j = 0; j < values.columns(); ++j) {
          const double slope = 2 / (static_cast<double>(values.columns()) * mean * mean) *
                               (sums[j] - mean - variance / mean);
          dvalues(t, j) += static_cast<T>(factor * slope);
        }
      }
    }
  });
}

void ReferenceKernels::scale_column_groups(ExecContext&, TensorView x_view, TensorView factor_view,
                                           TensorView y_view) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), factor(factor_view), y(y_view);
    const int64_t each = x.columns() / factor.columns();
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t j = 0; j < x.columns(); ++j) y(t, j) = x(t, j) * factor(t, j / each);
    }
  });
}

void ReferenceKernels::scale_column_groups_backward(ExecContext&, TensorView x_view,
                                                    TensorView factor_view, TensorView dy_view,
                                                    TensorView dx_view, TensorView dfactor_view,
                                                    Write write) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), factor(factor_view), dy(dy_view), dx(dx_view), df(dfactor_view);
    const int64_t each = x.columns() / factor.columns();
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t i = 0; i < factor.columns(); ++i) {
        T sum = 0;
        for (int64_t j = i * each; j < (i + 1) * each; ++j) {
          sum += dy(t, j) * x(t, j);
          put(dx(t, j), dy(t, j) * factor(t, i), write);
        }
        put(df(t, i), sum, write);
      }
    }
  });
}

void ReferenceKernels::sum_column_groups(ExecContext&, TensorView x_view, TensorView y_view) {
  reference::with_floating(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), y(y_view);
    const int64_t each = x.columns() / y.columns();
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t i = 0; i < y.columns(); ++i) {
        const T* first = x.row(t) + i * each;
        y(t, i) = std::accumulate(first, first + each, T{0});
      }
    }
  });
}

}  // namespace switchyard
