#include "moe/experts.h"

#include <cmath>

#include "layers/initialise.h"

namespace switchyard {

static int64_t width_of_slice(const Experts::Options& options) {
  SWITCHYARD_CHECK(options.slices >= 1 && options.slice >= 0 && options.slice < options.slices &&
                       options.d_ff % options.slices == 0,
                   "slice ", options.slice, " of ", options.slices, " of ", options.d_ff);
  return options.d_ff / options.slices;
}

// The rank's slice along an axis of a stacked weight.
static WeightSlice slice_along(int axis, const Experts::Options& options) {
  if (options.slices == 1) return {};
  return {.axis = axis, .begin = options.slice * width_of_slice(options), .total = options.d_ff};
}

Experts::Experts(const std::string& name, const ExpertRange& range, const Options& options,
                 DType dtype, Memory& memory, uint64_t seed)
    : options_(options),
      slices_(options.layer),
      wi_(name + ".*.wi", WeightRole::kExpert, dtype,
          {range.count, width_of_slice(options), options.d_model}, memory, range,
          slice_along(1, options)),
      wo_(name + ".*.wo", WeightRole::kExpert, dtype,
          {range.count, options.d_model, width_of_slice(options)}, memory, range,
          slice_along(2, options)) {
  const auto fan_in = [&](int64_t width) {
    return Initial::truncated_normal(std::sqrt(options.init_scale / static_cast<double>(width)));
  };
  initialise(wi_, fan_in(options.d_model), seed);
  initialise(wo_, fan_in(options.d_ff), seed);
}

void Experts::drop(LayerContext& ctx, TensorView row_keys, TensorView x) const {
  if (!drops(ctx)) return;
  RandomRows random = ctx.random(row_keys, options_.layer, Purpose::kExpertDropout);
  random.first_column = wi_.slice().begin;
  dropout(ctx, x, options_.dropout, random, x);
}

void Experts::lay_out(LayerContext& ctx, const RaggedRows& rows, DType dtype, TensorView row_keys,
                      Saved& saved, Arena& saved_arena) const {
  if (is_sliced()) saved.plan = slices_.agree(ctx, rows, row_keys, saved_arena);
  const Shape inner{is_sliced() ? saved.plan.rows() : rows.rows(), wi_.shape()[1]};
  saved.pre_activation = saved_arena.allocate(dtype, inner);
  saved.hidden = saved_arena.allocate(dtype, inner);
}

Experts::Inputs Experts::gather(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                                TensorView row_keys, const Saved& saved) const {
  if (!is_sliced()) return {rows, x, row_keys};
  return {saved.plan.ragged(), slices_.gather(ctx, saved.plan, x, ctx.scratch), saved.plan.keys};
}

void Experts::fill_hidden(LayerContext& ctx, const Inputs& in, const Saved& saved) const {
  grouped_linear(ctx, in.x, RowOrder::kIndexed, wi_, in.rows, saved.hidden, RowOrder::kCompact,
                 {options_.activation, saved.pre_activation});
  drop(ctx, in.row_keys, saved.hidden);
}

void Experts::compute_hidden(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                             TensorView row_keys, Saved& saved, Arena& saved_arena) const {
  lay_out(ctx, rows, x.dtype(), row_keys, saved, saved_arena);
  const ScratchScope scope(ctx.scratch);
  fill_hidden(ctx, gather(ctx, rows, x, row_keys, saved), saved);
}

TensorView Experts::forward(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                            TensorView row_keys, Saved& saved, Arena& saved_arena,
                            Arena& arena) const {
  const TensorView y = arena.allocate(x.dtype(), x.shape());
  lay_out(ctx, rows, x.dtype(), row_keys, saved, saved_arena);
  const ScratchScope scope(ctx.scratch);
  const Inputs in = gather(ctx, rows, x, row_keys, saved);
  fill_hidden(ctx, in, saved);
  const TensorView part = is_sliced() ? ctx.scratch.allocate(x.dtype(), in.x.shape()) : y;
  grouped_linear(ctx, saved.hidden, RowOrder::kCompact, wo_, in.rows, part, RowOrder::kIndexed);
  if (is_sliced()) slices_.sum(ctx, saved.plan, part, y);
  return y;
}

TensorView Experts::backward(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                             TensorView row_keys, const Saved& saved, TensorView dy_here,
                             Arena& arena) {
  const TensorView dx = arena.allocate(x.dtype(), x.shape());
  const ScratchScope scope(ctx.scratch);
  const Inputs in = gather(ctx, rows, x, row_keys, saved);
  const TensorView dy =
      is_sliced() ? slices_.gather(ctx, saved.plan, dy_here, ctx.scratch) : dy_here;
  const TensorView part = is_sliced() ? ctx.scratch.allocate(x.dtype(), in.x.shape()) : dx;
  const TensorView dhidden = ctx.scratch.allocate(x.dtype(), saved.hidden.shape());
  grouped_weight_gradient(ctx, saved.hidden, RowOrder::kCompact, dy, RowOrder::kIndexed, in.rows,
                          wo_);
  grouped_input_gradient(ctx, dy, RowOrder::kIndexed, wo_, in.rows, dhidden, RowOrder::kCompact);
  drop(ctx, in.row_keys, dhidden);
  activation_backward(ctx, options_.activation, saved.pre_activation, dhidden, dhidden);
  grouped_weight_gradient(ctx, in.x, RowOrder::kIndexed, dhidden, RowOrder::kCompact, in.rows, wi_);
  grouped_input_gradient(ctx, dhidden, RowOrder::kCompact, wi_, in.rows, part, RowOrder::kIndexed);
  if (is_sliced()) slices_.sum(ctx, saved.plan, part, dx);
  return dx;
}

void Experts::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&wi_, &wo_});
}

}  // namespace switchyard
