// Turns summed gradients into updated weights. Each rank updates what it holds; copies of a weight
// stay equal because their gradients are, and because what an optimizer sums over ranks has the
// same bits on all of them.
#pragma once

#include <span>
#include <vector>

#include "ops/exec_context.h"
#include "tensor/optimizer_state.h"

namespace switchyard {

struct UpdateStep {
  int64_t number = 0;  // 0 for the first update of the run
  double learning_rate = 0;
  double gradient_scale = 1;  // the clipping factor
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Updates every weight from its gradient and marks its master as changed. Every rank calls it.
  virtual void step(ExecContext& ctx, const UpdateStep& update) = 0;
  // What a checkpoint must hold beside the weights, in the order of the weights.
  virtual std::vector<OptimizerState> states() = 0;
};

// A tensor of an optimizer's state as it starts: zeros in the weight's dtype and memory.
Tensor zero_state(const Weight& weight, const Shape& shape);

}  // namespace switchyard
