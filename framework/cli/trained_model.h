// A trained model on disk as `generate` and `logits` use it: any number of ranks will do, whatever
// it was trained with.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "tensor/weight.h"

namespace switchyard {

struct TrainedModel {
  Config config;
  int64_t vocabulary = 0;   // V: rows of its embedding table
  std::string description;  // "checkpoint runs/a/checkpoints/step-00000100", "Hugging Face mixtral
                            // models/a"
  // Fills the weights of this rank's part of the model. Every rank calls it.
  std::function<void(const std::vector<Weight*>& weights, Collectives& world)> load;
};

// The model at `path`: the folder of a run, a checkpoint, or a directory of Hugging Face. Its
// config lies there too.
//   overrides  of the config, "train.precision=bfloat16"
// Throws CheckpointError if there is none, ConfigError where the config doesn't allow an override.
TrainedModel open_trained_model(const std::filesystem::path& path,
                                const std::vector<std::string>& overrides);

// Takes out what of the run's layout has no say without training.
void free_of_layout(Config& config);

}  // namespace switchyard
