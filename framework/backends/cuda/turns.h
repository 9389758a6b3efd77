// Sine and cosine in float64 of an angle counted in turns. CUDA's own sin and cos need local memory
// to reduce large angles; turns are reduced by leaving out whole ones. For the .cu files of this
// folder.
#pragma once

#include "backends/cuda/cuda_types.h"

namespace switchyard::cuda {

inline constexpr double kTurn = 0.15915494309189533577;  // 1 / (2 pi): turns of a radian

struct SinCos {
  double sin, cos;
};

// Within 1e-15 of the exact ones for the turns given.
__device__ inline SinCos sin_cos_of_turns(double turns) {
  const double rest = turns - rint(turns);                              // [-1/2, 1/2]
  const double quarters = rint(4.0 * rest);                             // -2 ... 2
  const double x = (rest - 0.25 * quarters) * 6.283185307179586476925;  // [-pi/4, pi/4]
  const double x2 = x * x;
  // Their series up to x^17 and x^16.
  double sine = 1.0 / 355687428096000.0;
  sine = sine * x2 - 1.0 / 1307674368000.0;
  sine = sine * x2 + 1.0 / 6227020800.0;
  sine = sine * x2 - 1.0 / 39916800.0;
  sine = sine * x2 + 1.0 / 362880.0;
  sine = sine * x2 - 1.0 / 5040.0;
  sine = sine * x2 + 1.0 / 120.0;
  sine = sine * x2 - 1.0 / 6.0;
  sine = sine * x2 * x + x;
  double cosine = 1.0 / 20922789888000.0;
  cosine = cosine * x2 - 1.0 / 87178291200.0;
  cosine = cosine * x2 + 1.0 / 479001600.0;
  cosine = cosine * x2 - 1.0 / 3628800.0;
  cosine = cosine * x2 + 1.0 / 40320.0;
  cosine = cosine * x2 - 1.0 / 720.0;
  cosine = cosine * x2 + 1.0 / 24.0;
  cosine = cosine * x2 - 0.5;
  cosine = cosine * x2 + 1.0;
  const int turned = static_cast<int>(quarters) & 3;
  const double s = turned & 1 ? cosine : sine, c = turned & 1 ? sine : cosine;
  return {turned & 2 ? -s : s, turned == 1 || turned == 2 ? -c : c};
}

}  // namespace switchyard::cuda
