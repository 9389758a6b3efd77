#include "registry/option_rules.h"

#include "base/errors.h"
#include "optim/adafactor.h"
#include "optim/schedule.h"
#include "optim/weight_groups.h"

namespace switchyard {

void check_weight_groups(const Options& options, const Config& config, const std::string& path) {
  if (!config.moe.encoder.layers.is_none() || !config.moe.decoder.layers.is_none()) return;
  const auto& groups = dynamic_cast<const OptimizerOptions&>(options);
  const auto check = [&](const WeightGroupOptions& group, const std::string& name) {
    if (group.learning_rate_scale == 1.0 && !group.weight_decay) return;
    const std::string key = path + ".groups." + name;
    throw ConfigError(key + " has no effect: the model has no mixture of experts",
                      config.origins.of({key + ".learning_rate_scale", key + ".weight_decay", key}),
                      "remove it, or give moe.encoder or moe.decoder some layers");
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
