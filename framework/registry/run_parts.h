// Everything but data that a config's model needs on one rank: to compute with it, or to train it.
#pragma once

#include <memory>
#include <optional>

#include "config/config.h"
#include "models/model.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "trainer/train_step.h"

namespace switchyard {

struct ModelParts {
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<Collectives> device_world;  // of tensors on devices; null: the host's world
  Groups groups;
  std::unique_ptr<Model> model;
  std::vector<Weight*> weights;

  // Every rank calls it. Throws ConfigError where the config doesn't fit the ranks.
  //   vocabulary  V
  //   threads     of this rank's team
  ModelParts(const Config& config, int64_t vocabulary, Collectives& world, int threads);
};

struct RunParts : ModelParts {
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Schedule> schedule;
  BatchLayout layout;  // of a training batch

  // As ModelParts.
  RunParts(const Config& config, int64_t vocabulary, Collectives& world, int threads);
};

// What TrainStep needs of the config.
TrainStep::Options step_options(const Config& config, const BatchLayout& layout);

// The layout of a global batch over `ranks`.
BatchLayout training_layout(const Config& config, int64_t ranks);

// parallel.threads, or the machine's cores shared out among its ranks.
int resolve_threads(const Config& config, int ranks_on_this_node);

}  // namespace switchyard
