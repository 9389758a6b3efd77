#include "optim/weight_groups.h"

#include "config/fields.h"

namespace switchyard {

static constexpr Range<double> kDecays{0.0, 1.0};

void WeightGroupOptions::describe(Fields& f) {
  f.real("learning_rate_scale", learning_rate_scale, {0.0, 1000.0}, "ratio",
         "Times the schedule's learning rate; 0 leaves the group's weights as they are.");
  f.real_or("auto", "weight_decay", weight_decay, kDecays, "ratio",
            "Of this group; auto is optimizer.weight_decay.");
  f.inert_if(learning_rate_scale == 0, {"weight_decay"}, "'learning_rate_scale' is 0");
}

void OptimizerOptions::describe_groups(Fields& f) {
  f.boolean("shard", shard,
            "Whether ranks that hold the same weights share out the optimizer's state and work "
            "(ZeRO-1); false: each rank updates all that it holds.");
  f.real("weight_decay", weight_decay, kDecays, "ratio",
         "Times the learning rate: the share of each weight that a step takes away.");
  f.boolean("decay_norms", decay_norms,
            "Whether norms and position biases decay too, as the dense group does.");
  f.section_with("groups", "Weights that are updated in their own way.", [&] {
    f.section("router", router, "The routers of mixtures.");
    f.section("experts", experts, "The experts of mixtures.");
    f.section("dense", dense, "All other weights, embeddings and norms included.");
  });
  const auto own = [](const WeightGroupOptions& group) {
    return group.weight_decay || group.learning_rate_scale == 0;
  };
  f.inert_if(own(router) && own(experts) && own(dense), {"weight_decay"},
             "each of 'groups' has its own or is frozen");
  f.inert_if(rule_for(*this, WeightRole::kDense).weight_decay == 0, {"decay_norms"},
             "the dense group doesn't decay");
}

WeightRule rule_for(const OptimizerOptions& options, WeightRole role) {
  const WeightGroupOptions& group = role == WeightRole::kRouter   ? options.router
                                    : role == WeightRole::kExpert ? options.experts
                                                                  : options.dense;
  const bool spared = role == WeightRole::kNorm || role == WeightRole::kPositionBias;
  const double decay = group.weight_decay.value_or(options.weight_decay);
  return {group.learning_rate_scale, spared && !options.decay_norms ? 0.0 : decay};
}

}  // namespace switchyard
