// A row times a matrix, in the three ways that a product and its gradients need. The dense and the
// grouped products share them. For the .cpp files of this folder only.
#pragma once

#include "backends/reference/matrix.h"

namespace switchyard::reference {

// w(n) . x
template <typename T>
Accurate<T> dot_row(Matrix<Accurate<T>> w, int64_t n, const T* x) {
  Accurate<T> sum = 0;
  for (int64_t k = 0; k < w.columns(); ++k) sum += x[k] * compute_weight<T>(w(n, k));
  return sum;
}

// dx = sum over n in order of dy[n] w(n).  dy [w rows], dx [w columns]
template <typename T>
void input_gradient_row(const T* dy, Matrix<Accurate<T>> w, Accurate<T>* dx) {
  std::fill_n(dx, w.columns(), Accurate<T>{0});
  for (int64_t n = 0; n < w.rows(); ++n) {
    for (int64_t k = 0; k < w.columns(); ++k) dx[k] += dy[n] * compute_weight<T>(w(n, k));
  }
}

// dw += dy x^T.  x [dw columns], dy [dw rows]
template <typename T>
void add_outer_product(const T* dy, const T* x, Matrix<Accurate<T>> dw) {
  for (int64_t n = 0; n < dw.rows(); ++n) {
    for (int64_t k = 0; k < dw.columns(); ++k) dw(n, k) += dy[n] * x[k];
  }
}

}  // namespace switchyard::reference
