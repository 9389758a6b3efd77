// A tensor that an optimizer keeps for a weight. Optimizers list theirs, checkpoints hold them.
#pragma once

#include <string>

#include "tensor/weight.h"

namespace switchyard {

struct OptimizerState {
  std::string name;  // "adamw.first"
  const Weight* weight = nullptr;
  TensorView value;  // any dtype and shape, in the weight's memory; for an expert weight
                     // [experts().count, ...], one entry an expert. Of a sliced weight a state
                     // of its shape is sliced alike; any other is equal on all slices' ranks.
};

}  // namespace switchyard
