// Planted bugs of gradients, weights and optimizer state.
#pragma once

#include "ops/kernels.h"
#include "verify/planted_bugs.h"

namespace switchyard {

class ScaledExpertGradients : public RunHooks {
  void before_update(HookedRank& rank) override;
};

class DroppedShard : public RunHooks {
  void after_backward(HookedRank& rank) override;
};

class UnreducedRouter : public RunHooks {
  void after_backward(HookedRank& rank) override;
};

class LostMicroBatch : public RunHooks {
  void before_step(HookedRank&) override { first_ = true; }
  void after_backward(HookedRank& rank) override;
  bool first_ = true;
};

class MeanOfRanks : public RunHooks {
  double gradient_scale(HookedRank& rank, const ModelBatch& batch, double scale) override;
};

class StaleWeights : public RunHooks {
  void before_step(HookedRank& rank) override;
  void before_update(HookedRank& rank) override;
  virtual std::vector<Weight*> stale(HookedRank& rank) const { return rank.parts.weights; }
  std::vector<Tensor> before_, now_;  // weights of the step before, and of this one
};

class StaleBiases : public StaleWeights {
  std::vector<Weight*> stale(HookedRank& rank) const override;
};

class StaleOptimizerState : public RunHooks {
  void before_step(HookedRank& rank) override;
  std::vector<Tensor> before_;  // of the step before
};

class SwappedExperts : public RunHooks {
  void before_step(HookedRank& rank) override;
  void before_update(HookedRank& rank) override;
};

}  // namespace switchyard
