#include "verify/bugs_in_gradients.h"

#include <utility>

#include "ops/loss.h"

namespace switchyard {

namespace {

// As many times itself, for a whole number of them.
void multiply(ExecContext& ctx, TensorView x, int times) {
  const ScratchScope scope(ctx.scratch);
  const TensorView once = ctx.scratch.allocate(x.dtype(), x.shape());
  copy(ctx, x, once);
  for (int i = 1; i < times; ++i) add(ctx, x, once, x);
}

std::vector<Tensor> copies_of(ExecContext& ctx, const std::vector<Weight*>& weights) {
  std::vector<Tensor> copies;
  for (const Weight* weight : weights) copies.push_back(read_back(ctx, weight->master()));
  return copies;
}

void set_weights(ExecContext& ctx, const std::vector<Weight*>& weights,
                 const std::vector<Tensor>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    upload_bytes(ctx, TensorView(values[i]).raw(), weights[i]->master());
    weights[i]->master_changed();
  }
}

// Exchanges the rank's first two experts, where it has two.
void swap_experts(HookedRank& rank) {
  for (Weight* weight : rank.parts.weights) {
    if (!weight->is_expert() || weight->experts().count < 2) continue;
    const TensorView first = weight->master().rows(0, 1), second = weight->master().rows(1, 2);
    const Tensor kept = read_back(rank.ctx, first);
    copy(rank.ctx, second, first);
    upload_bytes(rank.ctx, TensorView(kept).raw(), second);
    weight->master_changed();
  }
}

}  // namespace

void ScaledExpertGradients::before_update(HookedRank& rank) {
  for (Weight* weight : rank.parts.weights) {
    if (!weight->is_expert()) continue;
    multiply(rank.ctx, weight->gradient(), rank.parts.groups.expert->size());
  }
}

void DroppedShard::after_backward(HookedRank& rank) {
  const Collectives& holders = *rank.parts.groups.replica;
  if (holders.rank() != holders.size() - 1) return;
  for (Weight* weight : rank.parts.weights) {
    if (weight->is_expert()) weight->begin_step();
  }
}

void UnreducedRouter::after_backward(HookedRank& rank) {
  if (rank.rank() == 0) return;
  for (Weight* weight : rank.parts.weights) {
    if (weight->role() == WeightRole::kRouter) weight->begin_step();
  }
}

void LostMicroBatch::after_backward(HookedRank& rank) {
  if (!std::exchange(first_, false)) return;
  for (Weight* weight : rank.parts.weights) weight->begin_step();
}

double MeanOfRanks::gradient_scale(HookedRank& rank, const ModelBatch& batch, double scale) {
  double targets = 0;
  for (const int32_t target : read_back_as<int32_t>(rank.ctx, batch.targets)) {
    targets += target != kIgnoredTarget;
  }
  const auto parts = static_cast<double>(rank.ranks() * rank.parts.layout.micro_batches);
  return targets == 0 ? scale : 1 / (parts * targets);
}

void StaleWeights::before_step(HookedRank& rank) {
  if (!rank.is_last()) return;
  now_ = copies_of(rank.ctx, stale(rank));
  if (rank.step > 0) set_weights(rank.ctx, stale(rank), before_);
}

void StaleWeights::before_update(HookedRank& rank) {
  if (!rank.is_last()) return;
  set_weights(rank.ctx, stale(rank), now_);
  before_ = std::move(now_);
}

std::vector<Weight*> StaleBiases::stale(HookedRank& rank) const {
  std::vector<Weight*> biases;
  for (Weight* weight : rank.parts.weights) {
    if (weight->role() == WeightRole::kBalanceBias) biases.push_back(weight);
  }
  return biases;
}

void StaleOptimizerState::before_step(HookedRank& rank) {
  if (!rank.is_last()) return;
  const std::vector<OptimizerState> states = rank.parts.optimizer->states();
  std::vector<Tensor> now;
  for (const OptimizerState& state : states) now.push_back(read_back(rank.ctx, state.value));
  for (size_t i = 0; i < before_.size(); ++i) {
    upload_bytes(rank.ctx, TensorView(before_[i]).raw(), states[i].value);
  }
  before_ = std::move(now);
}

void SwappedExperts::before_step(HookedRank& rank) { swap_experts(rank); }
void SwappedExperts::before_update(HookedRank& rank) { swap_experts(rank); }

}  // namespace switchyard
