#include "registry/run_parts.h"

#include <algorithm>
#include <thread>

#include "config/resolve.h"
#include "config/rules.h"
#include "registry/choices.h"
#include "registry/devices.h"
#include "registry/make_model.h"

namespace switchyard {

int resolve_threads(const Config& config, int ranks_on_this_node) {
  if (config.parallel.threads) return static_cast<int>(*config.parallel.threads);
  const auto cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return std::max(1, cores / ranks_on_this_node);
}

BatchLayout training_layout(const Config& config, int64_t ranks) {
  return {.sequences = config.train.batch_sequences,
          .group_sequences = resolve_group_sequences(config),
          .micro_batches = config.train.micro_batches,
          .ranks = ranks};
}

TrainStep::Options step_options(const Config& config, const BatchLayout& layout) {
  return {.layout = layout,
          .seed = static_cast<uint64_t>(config.seed),
          .clip_norm = config.train.clip_norm,
          .skip_nonfinite = config.train.on_nonfinite == TrainConfig::OnNonfinite::kSkip,
          .ordered = config.train.reduction == TrainConfig::Reduction::kOrdered,
          .shard_updates = shards_optimizer(config.optimizer)};
}

RunParts::RunParts(const Config& config, int64_t vocabulary, Collectives& world, int threads) {
  check_layout(config, world.size());
  const std::string device = resolve_device(config.device, config.origins.of({"device"}));
  kernels = make_kernels(device, threads);
  if (!kernels->supports(precision_of(config))) {
    throw ConfigError(
        "device '" + device + "' doesn't compute in " + std::string(name_of(precision_of(config))),
        config.origins.of({"train.precision", "device"}),
        "set train.precision: float32, or device: reference");
  }
  groups = make_groups(world, static_cast<int>(resolve_expert_ranks(config, world.size())));
  model = make_model(config, vocabulary, *kernels, groups);
  weights = model->weights();
  if (config.train.reduction == TrainConfig::Reduction::kOrdered) {
    for (Weight* weight : weights) weight->keep_ordered_sums();
  }
  const WeightReplicas replicas(groups, weights, shards_optimizer(config.optimizer));
  optimizer = make_optimizer(config.optimizer, replicas.updated_here(), groups);
  schedule = make_schedule(config.schedule, config.train.steps);
  layout = training_layout(config, world.size());
}

}  // namespace switchyard
