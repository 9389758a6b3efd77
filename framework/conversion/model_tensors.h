// The tensors that the model of a config has, without making the model: their global names and
// shapes. A test compares them with those of models that are made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace switchyard {

struct TensorSpec {
  std::string name;  // "encoder.block.1.moe.expert.2.wi"
  std::vector<uint64_t> shape;
  int64_t experts = 0;  // of an expert's tensor: E of its layer
};

// In the order of the model: embedding, then block by block. Throws ConfigError for what conversion
// doesn't know: routers with more weights than a gate, shared experts.
//   vocabulary  V
std::vector<TensorSpec> model_tensors(const Config& config, int64_t vocabulary);

}  // namespace switchyard
