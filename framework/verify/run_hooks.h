// Where one rank's training can be changed from outside, in the order of the calls. Planted bugs
// (planted_bugs.h) and tests derive from it; by default nothing is changed.
#pragma once

#include <memory>

#include "registry/run_parts.h"

namespace switchyard {

// A rank between two calls of the training step.
struct HookedRank {
  RunParts& parts;
  ExecContext& ctx;
  int64_t step = 0;  // number of the update, from 0

  int rank() const { return parts.groups.world->rank(); }
  int ranks() const { return parts.groups.world->size(); }
  bool is_last() const { return rank() == ranks() - 1; }
};

class RunHooks {
 public:
  virtual ~RunHooks() = default;

  // Before anything is made of the config.
  virtual void change_config(Config& /*config*/, int /*rank*/, int /*ranks*/) {}
  // Of the random numbers in the steps; initial weights keep the config's.
  virtual uint64_t step_seed(uint64_t seed, int /*rank*/) { return seed; }
  // What to read instead of `source`, which outlives it; null: `source` itself.
  virtual std::unique_ptr<TokenSource> replace_source(const TokenSource& /*source*/, int /*rank*/,
                                                      int /*ranks*/) {
    return nullptr;
  }
  // Before the first step; may put other collectives in the groups' place.
  virtual void connect(Groups& /*groups*/) {}

  virtual void before_step(HookedRank& /*rank*/) {}
  // Of a micro-batch: what its losses are multiplied with for their gradient.
  virtual double gradient_scale(HookedRank& /*rank*/, const ModelBatch& /*batch*/, double scale) {
    return scale;
  }
  // Of a micro-batch; gradients are not yet summed over ranks.
  virtual void after_backward(HookedRank& /*rank*/) {}
  // Gradients are summed over ranks.
  virtual void before_update(HookedRank& /*rank*/) {}
};

}  // namespace switchyard
