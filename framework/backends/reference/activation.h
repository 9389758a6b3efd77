// The activation functions and their derivatives. For the .cpp files of this folder only.
#pragma once

#include <cmath>

#include "ops/mat_mul.h"

namespace switchyard::reference {

// sqrt(2 / pi) (x + 0.044715 x^3): tanh of it is nearly erf(x / sqrt(2)) (Hendrycks & Gimpel 2016).
template <typename T>
T gelu_argument(T x) {
  return static_cast<T>(M_2_SQRTPI * M_SQRT1_2) * (x + static_cast<T>(0.044715) * x * x * x);
}

template <typename T>
T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x > 0 ? x : T{0};
    case Activation::kGelu:  // x Phi(x), Hendrycks & Gimpel 2016
      return x * T{0.5} * (1 + std::erf(x * static_cast<T>(M_SQRT1_2)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kRelu2:
      return x > 0 ? x * x : T{0};
    case Activation::kGeluTanh:
      return T{0.5} * x * (1 + std::tanh(gelu_argument(x)));
  }
  return x;
}

template <typename T>
T activation_derivative(Activation activation, T x) {
  switch (activation) {
    case Activation::kNone:
      return 1;
    case Activation::kRelu:
      return x > 0 ? T{1} : T{0};
    case Activation::kGelu: {  // Phi(x) + x phi(x)
      const T cumulative = T{0.5} * (1 + std::erf(x * static_cast<T>(M_SQRT1_2)));
      const T density = std::exp(T{-0.5} * x * x) * static_cast<T>(M_2_SQRTPI * M_SQRT1_2 / 2);
      return cumulative + x * density;
    }
    case Activation::kSilu: {
      const T sigmoid = 1 / (1 + std::exp(-x));
      return sigmoid * (1 + x * (1 - sigmoid));
    }
    case Activation::kRelu2:
      return x > 0 ? 2 * x : T{0};
    case Activation::kGeluTanh: {
      const T tanh = std::tanh(gelu_argument(x));
      const T slope =
          static_cast<T>(M_2_SQRTPI * M_SQRT1_2) * (1 + static_cast<T>(3 * 0.044715) * x * x);
      return T{0.5} * (1 + tanh) + T{0.5} * x * (1 - tanh * tanh) * slope;
    }
  }
  return 1;
}

}  // namespace switchyard::reference
