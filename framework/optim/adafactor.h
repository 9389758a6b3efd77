// Adafactor (Shazeer & Stern 2018) as Mesh-TensorFlow and T5 use it: second moments of matrices
// kept as row and column means, no first moment, updates clipped by their RMS and scaled by the
// weight's. Of stacked experts every expert is a matrix of its own; what RMS is taken over is an
// option. docs/semantics.md has the formula.
#pragma once

#include "base/reused_memory.h"
#include "collectives/groups.h"
#include "ops/update.h"
#include "optim/optimizer.h"
#include "optim/weight_groups.h"

namespace switchyard {

struct AdafactorOptions : OptionsOf<AdafactorOptions, OptimizerOptions> {
  // What RMS(update) and RMS(weight) are taken over where a weight stacks experts.
  enum class StackedExperts {
    kLayer,  // all experts of the layer, as Mesh-TensorFlow: they clip and scale together
    kExpert  // each by itself, as if its matrices stood alone
  };

  double decay_exponent = 0.8;
  int64_t step_offset = 0;
  std::optional<double> clip_threshold = 1.0;  // empty: no clipping
  double epsilon1 = 1e-30;
  double epsilon2 = 1e-3;
  int64_t min_size_to_factor = 128;
  bool multiply_by_parameter_scale = true;
  StackedExperts stacked_experts = StackedExperts::kLayer;

  void describe(Fields& f) override;
};

class Adafactor : public Optimizer {
 public:
  // State starts at zero. Weights that aren't experts have at most two dimensions. `weights` and
  // `groups` must outlive the optimizer.
  Adafactor(const AdafactorOptions& options, std::span<Weight* const> weights,
            const Groups& groups);

  // With StackedExperts::kLayer the ranks of an expert group exchange two numbers an expert.
  void step(ExecContext& ctx, const UpdateStep& update) override;
  std::vector<OptimizerState> states() override;

 private:
  // A weight as N matrices [N, out, in], or [N, elements] where it isn't factored; N is 1 but for
  // experts.
  struct Slot {
    Weight* weight;
    WeightRule rule;
    Shape shape;
    Tensor rows, columns;  // see AdafactorMoments; no columns where it isn't factored

    int64_t count() const { return shape[0]; }
    AdafactorMoments moments() const;
  };
  // Sums of squares of a tensor's update and of the tensor, before the step.
  struct Squares {
    double direction = 0, weight = 0;
  };

  // Writes the slots' sums, [count, 2] each, one after the other.
  void update_moments(ExecContext& ctx, const UpdateStep& update, TensorView sums);
  // The same sums over all experts of each layer, for the slots of experts, in their order: equal
  // bits on every rank and in every layout.
  ReusedVector<Squares> sum_layers(ExecContext& ctx, std::span<const double> local) const;
  double step_size(double learning_rate, const Squares& squares, int64_t elements) const;

  AdafactorOptions options_;
  const Groups& groups_;
  std::vector<Slot> slots_;
  int64_t tensors_ = 0;  // of all slots on this rank
};

}  // namespace switchyard
