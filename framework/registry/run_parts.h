// Everything that training or evaluating one config needs, made for one rank.
#pragma once

#include <memory>
#include <optional>

#include "config/config.h"
#include "data/dataset.h"
#include "data/span_corruption_source.h"
#include "models/model.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "trainer/batch_layout.h"

namespace switchyard {

// The dataset of a config, its training and its validation samples. Shared by the threaded ranks of
// a process; reading it needs no lock.
struct RunData {
  Dataset dataset;
  SpanCorruptionSource training, validation;

  // Throws InputError for a missing or damaged dataset, ConfigError where the config doesn't fit
  // it.
  static std::unique_ptr<RunData> open(const Config& config);

 private:
  RunData(Dataset opened, const Config& config);
};

struct RunParts {
  std::unique_ptr<Kernels> kernels;
  Groups groups;
  std::unique_ptr<Model> model;
  std::vector<Weight*> weights;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Schedule> schedule;
  BatchLayout layout;  // of a training batch

  // Every rank calls it. Throws ConfigError where the config doesn't fit the ranks.
  //   vocabulary  V
  //   threads     of this rank's team
  RunParts(const Config& config, int64_t vocabulary, Collectives& world, int threads);
};

// The layout of a global batch over `ranks`.
BatchLayout training_layout(const Config& config, int64_t ranks);

// model.vocabulary, or the dataset's. Throws ConfigError where the model's is too small for it.
int64_t resolve_vocabulary(const Config& config, const Dataset& dataset);

// parallel.threads, or the machine's cores shared out among its ranks.
int resolve_threads(const Config& config, int ranks_on_this_node);

}  // namespace switchyard
