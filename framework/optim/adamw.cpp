#include "optim/adamw.h"

#include "config/fields.h"
#include "ops/update.h"

namespace switchyard {

void AdamWOptions::describe(Fields& f) {
  f.real("beta1", beta1, {0.0, 0.9999}, "ratio", "Decay of the mean of gradients.");
  f.real("beta2", beta2, {0.0, 0.999999}, "ratio", "Decay of the mean of squared gradients.");
  f.real("epsilon", epsilon, {1e-20, 1.0}, "", "Added to the root of the mean square.");
  f.real("weight_decay", weight_decay, {0.0, 1.0}, "ratio",
         "Times the learning rate: the share of each weight that a step takes away.");
}

static Tensor zeros_like(const Weight& weight) {
  Tensor zeros(weight.dtype(), weight.shape(), weight.memory());
  const std::vector<std::byte> host(zeros.size_bytes());
  weight.memory().copy_in(zeros.view().raw(), host.data(), host.size());
  return zeros;
}

AdamW::AdamW(const AdamWOptions& options, std::span<Weight* const> weights) : options_(options) {
  for (Weight* weight : weights) {
    moments_.push_back({weight, zeros_like(*weight), zeros_like(*weight)});
  }
}

static bool decays(WeightRole role) {
  return role != WeightRole::kNorm && role != WeightRole::kPositionBias;
}

void AdamW::step(ExecContext& ctx, const UpdateStep& update) {
  AdamWStep step{.learning_rate = update.learning_rate,
                 .beta1 = options_.beta1,
                 .beta2 = options_.beta2,
                 .epsilon = options_.epsilon,
                 .step = update.number + 1,
                 .gradient_scale = update.gradient_scale};
  for (Moments& moments : moments_) {
    Weight& weight = *moments.weight;
    step.weight_decay = decays(weight.role()) ? options_.weight_decay : 0.0;
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
