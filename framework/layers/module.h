// The base of everything that has parameters: it only lists them. Forward and backward have the
// signatures that each layer's mathematics needs.
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
