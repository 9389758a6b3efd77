#include "moe/experts.h"

#include <cmath>

#include "layers/initialise.h"

namespace switchyard {

Experts::Experts(const std::string& name, const ExpertRange& range, int64_t d_model, int64_t d_ff,
                 Activation activation, double init_scale, DType dtype, Memory& memory,
                 uint64_t seed)
    : activation_(activation),
      wi_(name + ".*.wi", WeightRole::kExpert, dtype, {range.count, d_ff, d_model}, memory, range),
      wo_(name + ".*.wo", WeightRole::kExpert, dtype, {range.count, d_model, d_ff}, memory, range) {
  const auto fan_in = [&](int64_t width) {
    return Initial::truncated_normal(std::sqrt(init_scale / static_cast<double>(width)));
  };
  initialise(wi_, fan_in(d_model), seed);
  initialise(wo_, fan_in(d_ff), seed);
}

TensorView Experts::forward(LayerContext& ctx, const RaggedRows& rows, TensorView x, Saved& saved,
                            Arena& arena) {
  const Shape inner{rows.rows(), wi_.shape()[1]};
  saved.pre_activation = ctx.saved.allocate(x.dtype(), inner);
  saved.hidden = ctx.saved.allocate(x.dtype(), inner);
  const TensorView y = arena.allocate(x.dtype(), x.shape());
  grouped_linear(ctx, x, RowOrder::kIndexed, wi_, rows, saved.hidden, RowOrder::kCompact,
                 {activation_, saved.pre_activation});
  grouped_linear(ctx, saved.hidden, RowOrder::kCompact, wo_, rows, y, RowOrder::kIndexed);
  return y;
}

TensorView Experts::backward(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                             const Saved& saved, TensorView dy, Arena& arena) {
  const TensorView dx = arena.allocate(x.dtype(), x.shape());
  const TensorView dhidden = arena.allocate(x.dtype(), saved.hidden.shape());
  grouped_weight_gradient(ctx, saved.hidden, RowOrder::kCompact, dy, RowOrder::kIndexed, rows, wo_);
  grouped_input_gradient(ctx, dy, RowOrder::kIndexed, wo_, rows, dhidden, RowOrder::kCompact);
  activation_backward(ctx, activation_, saved.pre_activation, dhidden, dhidden);
  grouped_weight_gradient(ctx, x, RowOrder::kIndexed, dhidden, RowOrder::kCompact, rows, wi_);
  grouped_input_gradient(ctx, dhidden, RowOrder::kCompact, wi_, rows, dx, RowOrder::kIndexed);
  return dx;
}

void Experts::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&wi_, &wo_});
}

}  // namespace switchyard
