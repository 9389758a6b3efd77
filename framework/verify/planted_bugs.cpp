#include "verify/planted_bugs.h"

#include <algorithm>

#include "config/resolve.h"
#include "moe/top_k_router.h"
#include "optim/sgd.h"
#include "verify/bugs_in_collectives.h"
#include "verify/bugs_in_gradients.h"
#include "verify/bugs_in_inputs.h"

namespace switchyard {

int PlantingPlace::places() const {
  return static_cast<int>(resolve_expert_ranks(config, ranks) / config.parallel.expert_tensor);
}

int PlantingPlace::replicas() const {
  return static_cast<int>(ranks / resolve_expert_ranks(config, ranks));
}

bool PlantingPlace::has_mixtures() const { return has_experts(config); }

namespace {

// What a bug needs to show. Each returns why it can't; empty where it can.
std::string needs_ranks(const PlantingPlace& at) {
  return at.ranks > 1 ? "" : "it takes several ranks";
}

std::string needs_mixtures(const PlantingPlace& at) {
  return at.has_mixtures() ? "" : "the config has no mixture of experts";
}

std::string needs_routers(const PlantingPlace& at) {
  return at.has_mixtures() ? needs_ranks(at) : needs_mixtures(at);
}

std::string needs_expert_group(const PlantingPlace& at) {
  if (!at.has_mixtures()) return needs_mixtures(at);
  return at.places() > 1 ? "" : "it takes expert groups that share out experts";
}

std::string needs_replicas(const PlantingPlace& at) {
  if (!at.has_mixtures()) return needs_mixtures(at);
  return at.replicas() > 1 ? "" : "it takes several ranks that hold the same experts";
}

std::string needs_two_steps(const PlantingPlace& at) {
  if (at.ranks == 1) return needs_ranks(at);
  return at.steps > 1 ? "" : "it shows in the second step (--steps)";
}

std::string needs_balance_bias(const PlantingPlace& at) {
  if (!at.has_mixtures()) return needs_mixtures(at);
  const auto has_bias = [](const StackConfig& stack) {
    return !stack.moe->layers.is_none() && stack.moe->router.type == "top_k" &&
           stack.moe->router.as<TopKRouterOptions>().bias_update_rate > 0;
  };
  if (std::ranges::none_of(stacks_of(at.config), has_bias))
    return "no router has a bias_update_rate";
  return needs_two_steps(at);
}

std::string needs_balance_loss(const PlantingPlace& at) {
  if (const std::string reason = needs_routers(at); !reason.empty()) return reason;
  return at.config.moe.losses.load_balance.coef > 0 ? "" : "moe.losses.load_balance.coef is 0";
}

std::string needs_random_numbers(const PlantingPlace& at) {
  if (at.ranks == 1) return needs_ranks(at);
  return draws_random_numbers(at) ? "" : "the config draws no random numbers in a step";
}

std::string needs_two_experts(const PlantingPlace& at) {
  if (const std::string reason = needs_routers(at); !reason.empty()) return reason;
  return at.config.moe.experts > at.places() ? "" : "no rank holds two experts of a layer";
}

std::string needs_micro_batches(const PlantingPlace& at) {
  return at.config.train.micro_batches > 1 ? "" : "it takes several micro-batches";
}

std::string needs_unequal_targets(const PlantingPlace& at) {
  if (at.ranks == 1) return needs_ranks(at);
  return targets_differ(at) ? "" : "every rank has the same number of target tokens";
}

std::string needs_other_groups(const PlantingPlace& at) {
  if (const std::string reason = needs_balance_loss(at); !reason.empty()) return reason;
  const int64_t batch = at.config.train.batch_sequences;
  const int64_t parts = at.ranks * at.config.train.micro_batches;
  if (batch % parts != 0) return "the global batch can't be shared out evenly";
  return batch / parts == resolve_group_sequences(at.config) ? "a rank has one routing group anyway"
                                                             : "";
}

std::string needs_optimizer_state(const PlantingPlace& at) {
  const Choice& optimizer = at.config.optimizer;
  const bool none = optimizer.type == "sgd" && optimizer.as<SgdOptions>().momentum == 0;
  return none ? "the optimizer keeps no state" : needs_two_steps(at);
}

template <typename Hooks>
std::unique_ptr<RunHooks> plain(const PlantingPlace&) {
  return std::make_unique<Hooks>();
}

template <typename Hooks>
std::unique_ptr<RunHooks> placed(const PlantingPlace& at) {
  return std::make_unique<Hooks>(at);
}

}  // namespace

const std::vector<PlantedBug>& planted_bugs() {
  static const std::vector<PlantedBug> bugs = {
      {"grad-scale", "expert gradients are multiplied by the ranks that share out the experts",
       needs_expert_group, plain<ScaledExpertGradients>},
      {"drop-shard", "the last holder's expert gradients are left out of the sum", needs_replicas,
       plain<DroppedShard>},
      {"unreduced-router", "router gradients are those of rank 0 alone", needs_routers,
       plain<UnreducedRouter>},
      {"lost-micro-batch", "the second micro-batch overwrites the gradients of the first",
       needs_micro_batches, plain<LostMicroBatch>},
      {"norm-double", "the gradient norm counts every parameter twice", needs_ranks,
       plain<DoubledNorm>},
      {"norm-local", "each rank clips by the norm of what it counts, not of the sum", needs_ranks,
       plain<LocalNorm>},
      {"loss-mean", "a mean over ranks stands for the mean over the global batch's targets",
       needs_unequal_targets, plain<MeanOfRanks>},
      {"aux-scale", "the auxiliary losses' coefficients are multiplied by the ranks",
       needs_balance_loss, plain<ScaledAuxiliaryLosses>},
      {"capacity-by-rank", "routing groups are what a rank happens to have", needs_other_groups,
       plain<GroupsByRank>},
      {"seed-by-rank", "random numbers are keyed by the rank", needs_random_numbers,
       plain<SeedByRank>},
      {"init-by-rank", "initial weights are keyed by the rank", needs_ranks, plain<InitialByRank>},
      {"sample-order", "every rank reads the samples of rank 0", needs_ranks,
       placed<SamplesOfRank0>},
      {"stale-weight", "the last rank computes with the weights from before the last update",
       needs_two_steps, plain<StaleWeights>},
      {"stale-bias", "the last rank routes by the balance biases from before the last update",
       needs_balance_bias, plain<StaleBiases>},
      {"stale-optimizer-state", "the last rank's optimizer state is a step behind",
       needs_optimizer_state, plain<StaleOptimizerState>},
      {"expert-swap", "each rank's first two experts change places", needs_two_experts,
       plain<SwappedExperts>},
      {"wrong-count", "rank 0 announces a row more than it sends", needs_expert_group,
       placed<WrongCount>},
  };
  return bugs;
}

const PlantedBug& planted_bug(const std::string& name) {
  std::string names = "all";
  for (const PlantedBug& bug : planted_bugs()) {
    if (bug.name == name) return bug;
    names += ", " + bug.name;
  }
  throw ConfigError("there is no bug '" + name + "' to plant", "--inject " + name,
                    "there are: " + names);
}

}  // namespace switchyard
