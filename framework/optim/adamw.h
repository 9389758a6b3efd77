// AdamW (Loshchilov & Hutter 2019): Adam with decoupled weight decay.
#pragma once

#include "optim/optimizer.h"
#include "optim/weight_groups.h"

namespace switchyard {

struct AdamWOptions : OptionsOf<AdamWOptions, OptimizerOptions> {
  double beta1 = 0.9;
  double beta2 = 0.98;
  double epsilon = 1e-8;

  AdamWOptions() { weight_decay = 0.01; }
  void describe(Fields& f) override;
};

class AdamW : public Optimizer {
 public:
  // State starts at zero. `weights` must outlive the optimizer.
  AdamW(const AdamWOptions& options, std::span<Weight* const> weights);

  void step(ExecContext& ctx, const UpdateStep& update) override;
  std::vector<OptimizerState> states() override;

 private:
  struct Moments {
    Weight* weight;
    WeightRule rule;
    Tensor first, second;
  };
  AdamWOptions options_;
  std::vector<Moments> moments_;
};

}  // namespace switchyard
