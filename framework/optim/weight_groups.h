// The settings that all optimizers share: weight decay, and the three groups of weights (router,
// experts, dense) whose learning rate and decay may differ. Decay is decoupled in every optimizer:
// a step takes learning rate * weight_decay of the weight away, whatever the gradient is.
#pragma once

#include <optional>

#include "config/choice.h"
#include "tensor/weight.h"

namespace switchyard {

struct WeightGroupOptions {
  double learning_rate_scale = 1.0;    // 0: the group stays as it is
  std::optional<double> weight_decay;  // empty: the optimizer's

  void describe(Fields& f);
};

// Options of an optimizer: OptionsOf<MyOptions, OptimizerOptions>, whose describe() begins with
// describe_groups().
struct OptimizerOptions : Options {
  bool shard = false;  // state and updates over replicas, see WeightReplicas
  double weight_decay = 0.0;
  bool decay_norms = false;  // norms and position biases, which belong to `dense`
  WeightGroupOptions router, experts, dense;

 protected:
  void describe_groups(Fields& f);
};

// What applies to one weight.
struct WeightRule {
  double learning_rate_scale = 1;
  double weight_decay = 0;
};
WeightRule rule_for(const OptimizerOptions& options, WeightRole role);

}  // namespace switchyard
