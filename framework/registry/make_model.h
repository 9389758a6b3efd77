// From a config to the model that it describes.
#pragma once

#include <memory>

#include "collectives/groups.h"
#include "config/config.h"
#include "layers/initialise.h"
#include "models/model.h"

namespace switchyard {

// This rank's part of the model: everything but the experts of other ranks, freshly initialised.
//   vocabulary  V
std::unique_ptr<Model> make_model(const Config& config, int64_t vocabulary, Kernels& kernels,
                                  const Groups& groups);

// How its matrices start.
Initialisation initialisation_of(const ModelConfig& model);

// The dtype of activations; weights are accurate(it).
DType precision_of(const Config& config);

}  // namespace switchyard
