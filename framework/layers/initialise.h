// First values of weights: a pure function of (seed, global name, index in the global tensor), so
// that every layout starts from the same model.
#pragma once

#include <cstdint>
#include <optional>

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

// How the matrices of a model start.
struct Initialisation {
  // s of T5 and Switch: truncated normal with deviation sqrt(s / fan in). Attention and embeddings
  // start as Mesh-TensorFlow's, without s.
  double scale = 1.0;
  // Set: every matrix is normal with this deviation, whatever its shape (Mixtral, OLMoE, Qwen).
  std::optional<double> deviation = {};

  // Of a matrix [out, fan_in] of a feed-forward network, router or untied head.
  Initial matrix(int64_t fan_in) const;
  // Of a matrix that starts as `t5` where no deviation is set.
  Initial matrix_or(const Initial& t5) const;
};

void initialise(Weight& weight, const Initial& initial, uint64_t seed);

}  // namespace switchyard
