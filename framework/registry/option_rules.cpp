#include "registry/option_rules.h"

#include <fmt/format.h>

#include "base/errors.h"
#include "config/resolve.h"
#include "moe/expert_choice_router.h"
#include "moe/hierarchical_router.h"
#include "moe/soft_router.h"
#include "moe/top_k_router.h"
#include "optim/adafactor.h"
#include "optim/schedule.h"
#include "optim/weight_groups.h"
#include "registry/choices.h"

namespace switchyard {

namespace {

// The stack whose router stands at `router_path`, such as "moe.encoder.router".
StackConfig stack_at(const Config& config, const std::string& router_path) {
  const std::string path = router_path.substr(0, router_path.rfind('.'));
  for (const StackConfig& stack : stacks_of(config))
    if (stack.moe_path == path) return stack;
  SWITCHYARD_CHECK(false, "no stack has its router at ", router_path);
  return {};
}

void check_overflow(const Config& config, const StackConfig& stack, const RouterTraits& traits) {
  const std::string& type = stack.moe->router.type;
  const auto overflow = config.moe.capacity_of(*stack.moe).overflow;
  const std::string place =
      config.origins.of({stack.moe_path + ".capacity.overflow", "moe.capacity.overflow",
                         stack.moe_path + ".router.type"});
  if (!traits.reroutes && overflow == CapacityConfig::Overflow::kReroute)
    throw ConfigError(
        fmt::format("capacity.overflow = reroute doesn't exist for the router {} of {}", type,
                    stack.moe_path),
        place, fmt::format("add {}.capacity: {{overflow: drop}}", stack.moe_path));
  if (!traits.takes_room && overflow == CapacityConfig::Overflow::kDropless)
    throw ConfigError(
        fmt::format("capacity.overflow = dropless contradicts the router {} of {}, which fills the "
                    "room that there is",
                    type, stack.moe_path),
        place, fmt::format("add {}.capacity: {{overflow: drop}}", stack.moe_path));
}

// A loss that no mixture's router has is inert.
void check_losses(const Config& config) {
  const auto needs = [&](const char* name, double coef, bool RouterTraits::*has,
                         const char* advice) {
    const std::string key = fmt::format("moe.losses.{}.coef", name);
    if (coef == 0 || !config.origins.given(key)) return;
    std::string types;
    for (const StackConfig& stack : stacks_of(config)) {
      if (stack.moe->layers.is_none()) continue;
      if (router_traits(stack.moe->router).*has) return;
      const std::string& type = stack.moe->router.type;
      if (types != type) types += (types.empty() ? "" : " and ") + type;
    }
    throw ConfigError(fmt::format("{} has no effect: the router {} has no such loss", key, types),
                      config.origins.of({key}), advice);
  };
  const MoeLossesConfig& losses = config.moe.losses;
  needs("load_balance", losses.load_balance.coef, &RouterTraits::load_balance, "set it to 0");
  needs("router_z", losses.router_z.coef, &RouterTraits::router_z, "set it to 0");
  needs("importance", losses.importance.coef, &RouterTraits::importance, "set it to 0");
  needs("load", losses.load.coef, &RouterTraits::load, "set it to 0, or use noisy_top_k");
}

void check_enough_experts(const Config& config, const std::string& path, int64_t least) {
  const StackConfig stack = stack_at(config, path);
  const int64_t fewest = config.moe.fewest_experts(*stack.moe);
  if (least <= fewest) return;
  throw ConfigError(
      fmt::format("{} needs {} experts a token, a layer has {}", path, least, fewest),
      config.origins.of({path + ".top_k", stack.moe_path + ".pyramid", "moe.experts"}),
      "lower it, or give the layer more experts");
}

// Every mixture's experts fall into the groups, which share out top_k.
template <typename Groups>
void check_expert_groups(const Config& config, const std::string& path, const Groups& groups,
                         int64_t top_k) {
  if (groups.count == 1) return;
  const StackConfig stack = stack_at(config, path);
  const auto refuse = [&](const std::string& what, const std::string& advice) {
    throw ConfigError(
        path + ".groups: " + what,
        config.origins.of({path + ".groups.count", path + ".groups.top", path + ".top_k",
                           stack.moe_path + ".pyramid", "moe.experts"}),
        advice);
  };
  if (groups.top > groups.count || top_k % groups.top != 0)
    refuse(fmt::format("top = {} of {} groups doesn't share out top_k = {} evenly", groups.top,
                       groups.count, top_k),
           "give top a divisor of top_k that is at most groups.count");
  const auto check = [&](int64_t experts) {
    if (experts % groups.count != 0)
      refuse(fmt::format("{} groups don't divide {} experts", groups.count, experts),
             "change groups.count or the number of experts");
    if (top_k / groups.top > experts / groups.count)
      refuse(fmt::format("{} experts in each of {} groups, which have {}", top_k / groups.top,
                         groups.top, experts / groups.count),
             "raise groups.top, or lower top_k or groups.count");
  };
  check(config.moe.experts);
  for (const LayerExpertsConfig& own : stack.moe->pyramid) check(own.experts);
}

}  // namespace

void check_router(const Options& base, const Config& config, const std::string& path) {
  const StackConfig stack = stack_at(config, path);
  if (stack.moe->layers.is_none()) return;
  const RouterTraits& traits = router_traits(stack.moe->router);
  if (stack.causal && !traits.looks_ahead.empty())
    throw ConfigError(fmt::format("{}.type = {} looks at the future in a causal stack: {}", path,
                                  stack.moe->router.type, traits.looks_ahead),
                      config.origins.of({path + ".type"}), "use top_k there, or another router");
  check_overflow(config, stack, traits);
  check_enough_experts(config, path, dynamic_cast<const RouterOptions&>(base).experts_per_token());
  check_losses(config);
}

void check_top_k(const Options& base, const Config& config, const std::string& path) {
  check_router(base, config, path);
  if (stack_at(config, path).moe->layers.is_none()) return;
  const auto& options = dynamic_cast<const TopKRouterOptions&>(base);
  if (options.top_k == 1 && options.normalize)
    throw ConfigError(path +
                          ": top_k = 1 with normalize gives every token the weight 1, and the "
                          "router no gradient",
                      config.origins.of({path + ".normalize", path + ".top_k"}),
                      "set normalize: false, or top_k: 2 or more");
  check_expert_groups(config, path, options.groups, options.top_k);
}

void check_hierarchical(const Options& base, const Config& config, const std::string& path) {
  check_router(base, config, path);
  if (stack_at(config, path).moe->layers.is_none()) return;
  const auto& options = dynamic_cast<const HierarchicalRouterOptions&>(base);
  check_expert_groups(config, path, options.groups, options.top_k);
  if (!options.normalize || (options.groups.top > 1 && options.groups.top < options.top_k)) return;
  throw ConfigError(
      fmt::format("{}: normalize gives the only one of {} the weight 1, and its gate no gradient",
                  path, options.groups.top == 1 ? "a token's groups" : "a group's experts"),
      config.origins.of({path + ".normalize", path + ".groups.top", path + ".top_k"}),
      "set normalize: false, or groups.top to 2 or more and top_k to a multiple of it");
}

void check_expert_choice(const Options& base, const Config& config, const std::string& path) {
  check_router(base, config, path);
  const StackConfig stack = stack_at(config, path);
  if (stack.moe->layers.is_none()) return;
  constexpr int64_t kMost = 256;  // experts that may choose one token: see ops/routing.h
  int64_t most = config.moe.experts;
  for (const LayerExpertsConfig& own : stack.moe->pyramid) most = std::max(most, own.experts);
  if (most <= kMost) return;
  throw ConfigError(fmt::format("{}: {} experts can't all choose one token", path, most),
                    config.origins.of({path + ".type", stack.moe_path + ".pyramid", "moe.experts"}),
                    fmt::format("give a layer at most {} experts, or use top_k", kMost));
}

void check_soft(const Options& base, const Config& config, const std::string& path) {
  check_router(base, config, path);
  if (stack_at(config, path).moe->layers.is_none()) return;
  const auto& options = dynamic_cast<const SoftRouterOptions&>(base);
  const int64_t length = config.data.inputs_length;  // soft is for encoders alone
  if (options.slots_per_expert.value_or(1) <= length) return;
  throw ConfigError(fmt::format("{}.slots_per_expert = {} is more than the {} tokens of a sequence",
                                path, *options.slots_per_expert, length),
                    config.origins.of({path + ".slots_per_expert", "data.inputs_length"}),
                    fmt::format("set it to at most {}, or to auto", length));
}

std::vector<std::string> warnings_of_routing(const Config& config) {
  const StackConfig stack = stacks_of(config).back();
  if (!stack.causal || stack.moe->layers.is_none()) return {};
  std::vector<std::string> warnings;
  const Choice& router = stack.moe->router;
  const RouterTraits& traits = router_traits(router);
  if (traits.looks_ahead_in_training)
    warnings.push_back(
        fmt::format("{}.router.type = {}: in training a token's choice depends on its routing "
                    "group's later tokens, which generation can't repeat; top_k looks back only",
                    stack.moe_path, router.type));
  const CapacityConfig& capacity = config.moe.capacity_of(*stack.moe);
  if (!traits.takes_room || capacity.overflow == CapacityConfig::Overflow::kDropless)
    return warnings;
  if (capacity.priority == CapacityConfig::Priority::kRandom)
    warnings.push_back(
        "capacity.priority = random in the decoder: in training a later token can take an earlier "
        "one's room, which generation can't repeat; position looks back only");
  if (router.as<RouterOptions>().experts_per_token() > 1)
    warnings.push_back(
        fmt::format("{} experts a token with a capacity in the decoder: a later token's first "
                    "choice can take the room of an earlier one's second, which generation can't "
                    "repeat; overflow: dropless looks back only",
                    router.as<RouterOptions>().experts_per_token()));
  return warnings;
}

void check_weight_groups(const Options& options, const Config& config, const std::string& path) {
  if (has_experts(config)) return;
  const auto& groups = dynamic_cast<const OptimizerOptions&>(options);
  const auto check = [&](const WeightGroupOptions& group, const std::string& name) {
    if (group.learning_rate_scale == 1.0 && !group.weight_decay) return;
    const std::string key = path + ".groups." + name;
    throw ConfigError(key + " has no effect: the model has no mixture of experts",
                      config.origins.of({key + ".learning_rate_scale", key + ".weight_decay", key}),
                      "remove it, or give some layers to the mixtures of moe");
  };
  check(groups.router, "router");
  check(groups.experts, "experts");
}

void check_adafactor(const Options& options, const Config& config, const std::string& path) {
  check_weight_groups(options, config, path);
  if (config.parallel.expert_tensor > 1)
    throw ConfigError(
        path +
            ".type = adafactor can't update slices of experts: its factored moments and its "
            "RMS are sums over whole matrices",
        config.origins.of({path + ".type", "parallel.expert_tensor"}),
        "use adamw or sgd, or parallel.expert_tensor: 1");
  const auto& adafactor = dynamic_cast<const AdafactorOptions&>(options);
  if (adafactor.step_offset < config.train.steps) return;
  throw ConfigError(path + ".step_offset = " + std::to_string(adafactor.step_offset) +
                        " is not before the last step: moments would never be kept",
                    config.origins.of({path + ".step_offset", "train.steps"}),
                    "set it below train.steps, " + std::to_string(config.train.steps));
}

void check_warmup_stable_decay(const Options& options, const Config& config,
                               const std::string& path) {
  const auto& schedule = dynamic_cast<const WarmupStableDecayOptions&>(options);
  const int64_t steps = config.train.steps, decay = schedule.resolve_decay_steps(steps);
  if (schedule.warmup_steps + decay <= steps) return;
  throw ConfigError(
      path + ": " + std::to_string(schedule.warmup_steps) + " warm-up and " +
          std::to_string(decay) + " decay steps overlap in " + std::to_string(steps) + " steps",
      config.origins.of({path + ".warmup_steps", path + ".decay_steps", "train.steps"}),
      "shorten warmup_steps or decay_steps, or raise train.steps");
}

}  // namespace switchyard
