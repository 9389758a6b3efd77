// The base of everything that has parameters: it only lists them. Forward and backward have the
// signatures that each layer's mathematics needs. The `dtype` that a layer is made with is its
// weights': float32 or float64. Its activations are what the input is, the weights' dtype or
// bfloat16.
#pragma once

#include <vector>

#include "tensor/weight.h"

namespace switchyard {

class Module {
 public:
  virtual ~Module() = default;
  // Appends every Weight once, in an order that depends on the config only.
  virtual void collect_weights(std::vector<Weight*>& weights) = 0;

  std::vector<Weight*> weights() {
    std::vector<Weight*> all;
    collect_weights(all);
    return all;
  }
};

}  // namespace switchyard
