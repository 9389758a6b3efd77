// First values of weights: a pure function of (seed, global name, index in the global tensor), so
// that every layout starts from the same model.
#pragma once

#include <cstdint>

#include "tensor/weight.h"

namespace switchyard {

struct Initial {
  enum class Kind : uint8_t {
    kConstant,
    kNormal,
    kTruncatedNormal,  // cut at two standard deviations, not rescaled (TensorFlow's
                       // truncated_normal)
    kUniform,          // in [-value, value)
  };
  Kind kind;
  double value;  // the constant, the standard deviation before any cut, or the limit

  static Initial constant(double value) { return {Kind::kConstant, value}; }
  static Initial normal(double deviation) { return {Kind::kNormal, deviation}; }
  static Initial truncated_normal(double deviation) { return {Kind::kTruncatedNormal, deviation}; }
  static Initial uniform(double limit) { return {Kind::kUniform, limit}; }
};

void initialise(Weight& weight, const Initial& initial, uint64_t seed);

}  // namespace switchyard
