// The activation functions and their derivatives in float32, as backends/reference/activation.h
// states them. For the .cu files of this folder.
#pragma once

#include "backends/cuda/cuda_types.h"
#include "ops/mat_mul.h"

namespace switchyard::cuda {

inline constexpr float kSqrtHalf = 0.70710678118654752f;
inline constexpr float kSqrtTwoOverPi = 0.79788456080286536f;
inline constexpr float kGeluCubic = 0.044715f;

__device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x > 0 ? x : 0.0f;
    case Activation::kGelu:
      return x * 0.5f * (1.0f + erff(x * kSqrtHalf));
    case Activation::kSilu:
      return x / (1.0f + expf(-x));
    case Activation::kRelu2:
      return x > 0 ? x * x : 0.0f;
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(kSqrtTwoOverPi * (x + kGeluCubic * x * x * x)));
  }
  return x;
}

__device__ inline float activation_derivative(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      return 1.0f;
    case Activation::kRelu:
      return x > 0 ? 1.0f : 0.0f;
    case Activation::kGelu: {  // Phi(x) + x phi(x)
      const float cumulative = 0.5f * (1.0f + erff(x * kSqrtHalf));
      const float density = expf(-0.5f * x * x) * (0.5f * kSqrtTwoOverPi);
      return cumulative + x * density;
    }
    case Activation::kSilu: {
      const float sigmoid = 1.0f / (1.0f + expf(-x));
      return sigmoid * (1.0f + x * (1.0f - sigmoid));
    }
    case Activation::kRelu2:
      return x > 0 ? 2.0f * x : 0.0f;
    case Activation::kGeluTanh: {
      const float tanh = tanhf(kSqrtTwoOverPi * (x + kGeluCubic * x * x * x));
      const float slope = kSqrtTwoOverPi * (1.0f + 3.0f * kGeluCubic * x * x);
      return 0.5f * (1.0f + tanh) + 0.5f * x * (1.0f - tanh * tanh) * slope;
    }
  }
  return 1.0f;
}

}  // namespace switchyard::cuda
