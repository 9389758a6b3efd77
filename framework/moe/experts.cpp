#include "moe/experts.h"

#include <cmath>

#include "layers/initialise.h"

namespace switchyard {

Experts::Experts(const std::string& name, const ExpertRange& range, const Options& options,
                 DType dtype, Memory& memory, uint64_t seed)
    : options_(options),
      wi_(name + ".*.wi", WeightRole::kExpert, dtype, {range.count, options.d_ff, options.d_model},
          memory, range),
      wo_(name + ".*.wo", WeightRole::kExpert, dtype, {range.count, options.d_model, options.d_ff},
          memory, range) {
  const auto fan_in = [&](int64_t width) {
    return Initial::truncated_normal(std::sqrt(options.init_scale / static_cast<double>(width)));
  };
  initialise(wi_, fan_in(options.d_model), seed);
  initialise(wo_, fan_in(options.d_ff), seed);
}

void Experts::drop(LayerContext& ctx, TensorView row_keys, TensorView x) const {
  if (!drops(ctx)) return;
  dropout(ctx, x, options_.dropout, ctx.random(row_keys, options_.layer, Purpose::kExpertDropout),
          x);
}

void Experts::compute_hidden(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                             TensorView row_keys, Saved& saved, Arena& saved_arena) {
  const Shape inner{rows.rows(), wi_.shape()[1]};
  saved.pre_activation = saved_arena.allocate(x.dtype(), inner);
  saved.hidden = saved_arena.allocate(x.dtype(), inner);
  grouped_linear(ctx, x, RowOrder::kIndexed, wi_, rows, saved.hidden, RowOrder::kCompact,
                 {options_.activation, saved.pre_activation});
  drop(ctx, row_keys, saved.hidden);
}

TensorView Experts::forward(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                            TensorView row_keys, Saved& saved, Arena& saved_arena, Arena& arena) {
  compute_hidden(ctx, rows, x, row_keys, saved, saved_arena);
  const TensorView y = arena.allocate(x.dtype(), x.shape());
  grouped_linear(ctx, saved.hidden, RowOrder::kCompact, wo_, rows, y, RowOrder::kIndexed);
  return y;
}

TensorView Experts::backward(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                             TensorView row_keys, const Saved& saved, TensorView dy, Arena& arena) {
  const TensorView dx = arena.allocate(x.dtype(), x.shape());
  const TensorView dhidden = arena.allocate(x.dtype(), saved.hidden.shape());
  grouped_weight_gradient(ctx, saved.hidden, RowOrder::kCompact, dy, RowOrder::kIndexed, rows, wo_);
  grouped_input_gradient(ctx, dy, RowOrder::kIndexed, wo_, rows, dhidden, RowOrder::kCompact);
  drop(ctx, row_keys, dhidden);
  activation_backward(ctx, options_.activation, saved.pre_activation, dhidden, dhidden);
  grouped_weight_gradient(ctx, x, RowOrder::kIndexed, dhidden, RowOrder::kCompact, rows, wi_);
  grouped_input_gradient(ctx, dhidden, RowOrder::kCompact, wi_, rows, dx, RowOrder::kIndexed);
  return dx;
}

void Experts::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&wi_, &wo_});
}

}  // namespace switchyard
