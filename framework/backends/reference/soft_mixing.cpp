#include <cmath>
#include <limits>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

void ReferenceKernels::softmax_over_tokens(ExecContext& ctx, TensorView logits_view,
                                           TensorView mask, LeafOffsets sequences,
                                           TensorView weights_view) {
  fill_zero(ctx, weights_view);
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), weights(weights_view);
    for (size_t b = 0; b + 1 < sequences.size(); ++b) {
      for (int64_t n = 0; n < logits.columns(); ++n) {
        T largest = -std::numeric_limits<T>::infinity(), sum = 0;
        for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
          if (reference::is_in(mask, t)) largest = std::max(largest, logits(t, n));
        }
        for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
          if (!reference::is_in(mask, t)) continue;
          weights(t, n) = std::exp(logits(t, n) - largest);
          sum += weights(t, n);
        }
        for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
          if (reference::is_in(mask, t)) weights(t, n) /= sum;
        }
      }
    }
  });
}

void ReferenceKernels::softmax_over_tokens_backward(ExecContext&, TensorView weights_view,
                                                    TensorView dweights_view, LeafOffsets sequences,
                                                    TensorView dlogits_view, Write write) {
  reference::with_floating(weights_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> weights(weights_view), dweights(dweights_view), dlogits(dlogits_view);
    for (size_t b = 0; b + 1 < sequences.size(); ++b) {
      for (int64_t n = 0; n < weights.columns(); ++n) {
        T mean = 0;
        for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
          mean += dweights(t, n) * weights(t, n);
        }
        for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
          const T value = weights(t, n) * (dweights(t, n) - mean);
          dlogits(t, n) = write == Write::kOverwrite ? value : dlogits(t, n) + value;
        }
      }
    }
  });
}

void ReferenceKernels::mix_rows(ExecContext&, TensorView weights_view, TensorView x_view,
                                LeafOffsets sequences, TensorView rows_view) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> x(x_view), rows(rows_view);
    const Matrix<A> weights(weights_view);
    for (size_t b = 0; b + 1 < sequences.size(); ++b) {
      for (int64_t n = 0; n < weights.columns(); ++n) {
        for (int64_t d = 0; d < rows.columns(); ++d) {
          A sum = 0;
          for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
            sum += weights(t, n) * static_cast<A>(x(t, d));
          }
          rows(static_cast<int64_t>(b) * weights.columns() + n, d) = static_cast<T>(sum);
        }
      }
    }
  });
}

void ReferenceKernels::unmix_rows(ExecContext&, TensorView weights_view, TensorView rows_view,
                                  LeafOffsets sequences, TensorView y_view, Write write) {
  reference::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> rows(rows_view), y(y_view);
    const Matrix<A> weights(weights_view);
    for (size_t b = 0; b + 1 < sequences.size(); ++b) {
      const int64_t first = static_cast<int64_t>(b) * weights.columns();
      for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
        for (int64_t d = 0; d < y.columns(); ++d) {
          A sum = write == Write::kOverwrite ? A{0} : static_cast<A>(y(t, d));
          for (int64_t n = 0; n < weights.columns(); ++n) {
            sum += weights(t, n) * static_cast<A>(rows(first + n, d));
          }
          y(t, d) = static_cast<T>(sum);
        }
      }
    }
  });
}

void ReferenceKernels::mixing_gradient(ExecContext&, TensorView x_view, TensorView rows_view,
                                       LeafOffsets sequences, TensorView dweights_view,
                                       Write write) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> x(x_view), rows(rows_view);
    const Matrix<A> dweights(dweights_view);
    for (size_t b = 0; b + 1 < sequences.size(); ++b) {
      const int64_t first = static_cast<int64_t>(b) * dweights.columns();
      for (int64_t t = sequences[b]; t < sequences[b + 1]; ++t) {
        for (int64_t n = 0; n < dweights.columns(); ++n) {
          A sum = write == Write::kOverwrite ? A{0} : dweights(t, n);
          for (int64_t d = 0; d < x.columns(); ++d) {
            sum += static_cast<A>(x(t, d)) * static_cast<A>(rows(first + n, d));
          }
          dweights(t, n) = sum;
        }
      }
    }
  });
}

}  // namespace switchyard
