// Stochastic gradient descent with momentum (Sutskever 2013, as PyTorch has it: the learning rate
// isn't part of the velocity) and decoupled weight decay.
#pragma once

#include "optim/optimizer.h"
#include "optim/weight_groups.h"

namespace switchyard {

struct SgdOptions : OptionsOf<SgdOptions, OptimizerOptions> {
  double momentum = 0.9;
  bool nesterov = false;

  void describe(Fields& f) override;
};

class Sgd : public Optimizer {
 public:
  // State starts at zero; there is none without momentum. `weights` must outlive the optimizer.
  Sgd(const SgdOptions& options, std::span<Weight* const> weights);

  void step(ExecContext& ctx, const UpdateStep& update) override;
  std::vector<OptimizerState> states() override;

 private:
  struct Slot {
    Weight* weight;
    WeightRule rule;
    Tensor velocity;
  };
  SgdOptions options_;
  std::vector<Slot> slots_;
};

}  // namespace switchyard
