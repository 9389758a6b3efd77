// A dense model made into a mixture of experts (Komatsuzaki 2023, "Sparse upcycling"): each chosen
// feed-forward network is copied into every expert of its layer, and a fresh router stands before
// them.
#pragma once

#include <string>
#include <vector>

#include "conversion/model_source.h"
#include "layers/initialise.h"

namespace switchyard {

struct UpcycleOptions {
  int64_t experts = 8;
  std::string layers;  // as moe.layers has them; empty: all in decoder_lm, {every: 2} elsewhere
  std::string router = "top_k";
  int64_t top_k = 2;  // of the router top_k
};

// "experts=8,layers=[1, 3],router=switch"; commas in brackets belong to a value. Throws
// ConfigError.
UpcycleOptions parse_upcycle(const std::string& text);

// Its config, with the mixtures that the options name, nothing dropped, and all else as in `dense`.
// Throws CheckpointError where the model has mixtures already, ConfigError where the options don't
// fit it.
Config upcycled_config(const ModelSource& dense, const UpcycleOptions& options,
                       const std::vector<std::string>& overrides, const ChoiceTables& tables);

// The tensors of `config`, the upcycled one, from those of the dense model. Routers start as the
// model's own do, by the config's seed.
//   start  of its matrices
std::vector<SourceTensor> upcycled_tensors(const ModelSource& dense, const Config& config,
                                           const Initialisation& start);

// Whether the weights of a token's experts add up to 1 in every router, so that the first forward
// pass is the dense model's.
bool keeps_the_function(const Config& config);

}  // namespace switchyard
