// Known bugs of layouts, to be planted into a run: verify must find each of them. Most were found
// in other trainers of mixtures of experts, where they were silent.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "verify/run_hooks.h"

namespace switchyard {

// What a bug would be planted into.
struct PlantingPlace {
  const Config& config;  // of the layout
  int ranks = 1;
  const TokenSource& source;
  int64_t steps = 1;

  int places() const;    // of an expert group: ranks, or the ranks of a slice
  int replicas() const;  // ranks that hold the same experts and slice
  bool has_mixtures() const;
};

struct PlantedBug {
  std::string name;  // "grad-scale"
  std::string
      what;  // "each rank's expert gradients are multiplied by the size of its expert group"
  // Why it can't occur there; empty where it can.
  std::function<std::string(const PlantingPlace&)> impossible;
  // The hooks of one rank that has it.
  std::function<std::unique_ptr<RunHooks>(const PlantingPlace&)> plant;

  // `place` outlives the result.
  std::function<std::unique_ptr<RunHooks>()> hooks(const PlantingPlace& place) const {
    return [this, place] { return plant(place); };
  }
};

const std::vector<PlantedBug>& planted_bugs();

// Throws ConfigError with the names there are.
const PlantedBug& planted_bug(const std::string& name);

}  // namespace switchyard
