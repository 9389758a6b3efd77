#include "registry/run_parts.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/hash.h"
#include "base/host_name.h"
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

namespace {

// How many ranks each host has, where all have as many, in the order of their ranks.
int64_t ranks_per_host(const Config& config, Collectives& world) {
  InlineStream stream;
  const Digest digest = digest_of(host_name());
  int64_t mine = 0;
  std::memcpy(&mine, digest.bytes.data(), sizeof mine);
  const auto size = static_cast<size_t>(world.size());
  std::vector<int64_t> hosts(size);
  const TensorView gathered(hosts.data(), DType::kInt64, {world.size()});
  world.all_gather(stream, {&mine, DType::kInt64, {1}}, std::vector<int64_t>(size, 1), gathered)
      ->wait();
  size_t ranks = 1;
  while (ranks < size && hosts[ranks] == hosts[0]) ++ranks;
  bool even = size % ranks == 0;
  for (size_t rank = ranks; rank < size && even; ++rank) {
    const bool first = rank % ranks == 0;
    even = (hosts[rank] == hosts[rank - 1]) != first;
  }
  if (!even)
    throw ConfigError("moe.dispatch = hierarchical needs as many ranks on each host, in order",
                      config.origins.of({"moe.dispatch"}),
                      "start them so (mpirun --map-by slot), or set parallel.ranks_per_node");
  return static_cast<int64_t>(ranks);
}

// For Dispatch: which ranks of an expert group share a node.
void find_nodes(const Config& config, Collectives& world, Groups& groups) {
  if (config.moe.dispatch != MoeConfig::Dispatch::kHierarchical) return;
  const int64_t group = groups.expert_ranks();
  const int64_t ranks = config.parallel.ranks_per_node ? *config.parallel.ranks_per_node
                                                       : ranks_per_host(config, world);
  check_nodes(config, group, ranks);
  split_by_node(groups, static_cast<int>(std::min(ranks, group)) / groups.tensor->size());
}

}  // namespace

ModelParts::ModelParts(const Config& config, int64_t vocabulary, Collectives& world, int threads) {
  check_layout(config, world.size());
  const std::string device = resolve_device(config.device, config.origins.of({"device"}));
  kernels = make_kernels(device, threads);
  if (!kernels->supports(precision_of(config))) {
    throw ConfigError(
        "device '" + device + "' doesn't compute in " + std::string(name_of(precision_of(config))),
        config.origins.of({"train.precision", "device"}),
        "set train.precision: float32, or device: reference");
  }
  device_world = make_device_collectives(device, world);
  groups = make_groups(device_world ? *device_world : world,
                       static_cast<int>(resolve_expert_ranks(config, world.size())),
                       static_cast<int>(config.parallel.expert_tensor));
  find_nodes(config, world, groups);
  model = make_model(config, vocabulary, *kernels, groups);
  weights = model->weights();
}

RunParts::RunParts(const Config& config, int64_t vocabulary, Collectives& world, int threads)
    : ModelParts(config, vocabulary, world, threads) {
  if (config.train.reduction == TrainConfig::Reduction::kOrdered) {
    for (Weight* weight : weights) weight->keep_ordered_sums();
  }
  const WeightReplicas replicas(groups, weights, shards_optimizer(config.optimizer));
  optimizer = make_optimizer(config.optimizer, replicas.updated_here(), groups);
  schedule = make_schedule(config.schedule, config.train.steps);
  layout = training_layout(config, world.size());
}

}  // namespace switchyard
