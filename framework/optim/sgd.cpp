#include "optim/sgd.h"

#include "config/fields.h"
#include "ops/update.h"

namespace switchyard {

void SgdOptions::describe(Fields& f) {
  f.real("momentum", momentum, {0.0, 0.9999}, "ratio",
         "Decay of the velocity, the running sum of gradients; 0 is plain descent.");
  f.boolean("nesterov", nesterov, "Whether the step looks one velocity ahead.");
  f.inert_if(momentum == 0, {"nesterov"}, "'momentum' is 0");
  describe_groups(f);
}

Sgd::Sgd(const SgdOptions& options, std::span<Weight* const> weights) : options_(options) {
  for (Weight* weight : weights) {
    Slot slot{weight, rule_for(options, weight->role()), {}};
    if (options.momentum > 0) slot.velocity = zero_state(*weight, weight->shape());
    slots_.push_back(std::move(slot));
  }
}

void Sgd::step(ExecContext& ctx, const UpdateStep& update) {
  SgdStep step{.momentum = options_.momentum,
               .nesterov = options_.nesterov,
               .gradient_scale = update.gradient_scale};
  for (Slot& slot : slots_) {
    step.learning_rate = update.learning_rate * slot.rule.learning_rate_scale;
    step.weight_decay = slot.rule.weight_decay;
    sgd(ctx, step, slot.weight->master(), slot.weight->gradient(), slot.velocity);
    slot.weight->master_changed();
  }
}

std::vector<OptimizerState> Sgd::states() {
  std::vector<OptimizerState> states;
  for (Slot& slot : slots_) {
    if (options_.momentum > 0) states.push_back({"sgd.velocity", slot.weight, slot.velocity});
  }
  return states;
}

}  // namespace switchyard
