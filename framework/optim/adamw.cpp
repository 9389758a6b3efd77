#include "optim/adamw.h"

#include "config/fields.h"
#include "ops/update.h"

namespace switchyard {

void AdamWOptions::describe(Fields& f) {
  f.real("beta1", beta1, {0.0, 0.9999}, "ratio", "Decay of the mean of gradients.");
  f.real("beta2", beta2, {0.0, 0.999999}, "ratio", "Decay of the mean of squared gradients.");
  f.real("epsilon", epsilon, {1e-20, 1.0}, "", "Added to the root of the mean square.");
  describe_groups(f);
}

AdamW::AdamW(const AdamWOptions& options, std::span<Weight* const> weights) : options_(options) {
  for (Weight* weight : weights) {
    moments_.push_back({weight, rule_for(options, weight->role()),
                        zero_state(*weight, weight->shape()),
                        zero_state(*weight, weight->shape())});
  }
}

void AdamW::step(ExecContext& ctx, const UpdateStep& update) {
  AdamWStep step{.beta1 = options_.beta1,
                 .beta2 = options_.beta2,
                 .epsilon = options_.epsilon,
                 .step = update.number + 1,
                 .gradient_scale = update.gradient_scale};
  for (Moments& moments : moments_) {
    Weight& weight = *moments.weight;
    step.learning_rate = update.learning_rate * moments.rule.learning_rate_scale;
    step.weight_decay = moments.rule.weight_decay;
    adamw(ctx, step, weight.master(), weight.gradient(), moments.first, moments.second);
    weight.master_changed();
  }
}

std::vector<OptimizerState> AdamW::states() {
  std::vector<OptimizerState> states;
  for (Moments& moments : moments_) {
    states.push_back({"adamw.first", moments.weight, moments.first});
    states.push_back({"adamw.second", moments.weight, moments.second});
  }
  return states;
}

}  // namespace switchyard
