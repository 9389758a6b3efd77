// The activation functions and their derivatives. For the .cpp files of this folder only.
#pragma once

#include <cmath>

#include "ops/mat_mul.h"

namespace switchyard::reference {

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
  }
  return 1;
}

}  // namespace switchyard::reference
