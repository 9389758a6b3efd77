#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Accurate;
using reference::Matrix;

// Calls body(t, d, uniform) for every element, uniform keyed by (row's token, its choice, column).
template <typename Body>
void for_each_uniform(TensorView x, const RandomRows& random, Body body) {
  for (int64_t t = 0; t < x.shape()[0]; ++t) {
    const int64_t row = random.token.data<int64_t>()[t];
    for (int64_t d = 0; d < x.shape()[1]; ++d) {
      body(t, d,
           random_uniform(random.key, token_of(row), choice_of(row),
                          static_cast<uint32_t>(random.first_column + d)));
    }
  }
}

}  // namespace

void ReferenceKernels::dropout(ExecContext&, TensorView x_view, double rate,
                               const RandomRows& random, TensorView y_view) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), y(y_view);
    const auto factor = static_cast<Accurate<T>>(1.0 / (1.0 - rate));
    for_each_uniform(x_view, random, [&](int64_t t, int64_t d, float uniform) {
      y(t, d) = uniform < static_cast<float>(rate) ? T{} : static_cast<T>(x(t, d) * factor);
    });
  });
}

void ReferenceKernels::jitter(ExecContext&, TensorView x_view, double epsilon,
                              const RandomRows& random, TensorView y_view) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> x(x_view), y(y_view);
    for_each_uniform(x_view, random, [&](int64_t t, int64_t d, float uniform) {
      const A centred = 2 * static_cast<A>(uniform) - 1;  // exact in float32 too
      y(t, d) = static_cast<T>(x(t, d) * (1 + static_cast<A>(epsilon) * centred));
    });
  });
}

void ReferenceKernels::uniform(ExecContext&, const RandomRows& random, TensorView y_view) {
  reference::with_floating(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> y(y_view);
    for_each_uniform(y_view, random,
                     [&](int64_t t, int64_t d, float u) { y(t, d) = static_cast<T>(u); });
  });
}

}  // namespace switchyard
