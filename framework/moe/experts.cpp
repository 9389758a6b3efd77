#include "moe/experts.h"

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
  initialise(wi_, options.init.matrix(options.d_model), seed);
  initialise(wo_, options.init.matrix(options.d_ff), seed);
  if (!options.gated) return;
  wg_.emplace(name + ".*.wg", WeightRole::kExpert, dtype, wi_.shape(), memory, range, wi_.slice());
  initialise(*wg_, options.init.matrix(options.d_model), seed);
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
  if (wg_) saved.up = saved_arena.allocate(dtype, inner);
}

Experts::Inputs Experts::gather(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                                TensorView row_keys, const Saved& saved) const {
  if (!is_sliced()) return {rows, x, row_keys};
  return {saved.plan.ragged(), slices_.gather(ctx, saved.plan, x, ctx.scratch), saved.plan.keys};
}

void Experts::fill_hidden(LayerContext& ctx, const Inputs& in, const Saved& saved) const {
  const auto product = [&](const Weight& w, TensorView y, const Epilogue& epilogue) {
    grouped_linear(ctx, in.x, RowOrder::kIndexed, w, in.rows, y, RowOrder::kCompact, epilogue);
  };
  if (wg_) {
    product(*wg_, saved.pre_activation, {});
    product(wi_, saved.up, {});
    gated_activation(ctx, options_.activation, saved.pre_activation, saved.up, saved.hidden);
  } else {
    product(wi_, saved.hidden, {options_.activation, saved.pre_activation});
  }
  drop(ctx, in.row_keys, saved.hidden);
}

void Experts::compute_hidden(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                             TensorView row_keys, Saved& saved, Arena& saved_arena) const {
  const Span span(ctx.tracer, Phase::kExperts);
  lay_out(ctx, rows, x.dtype(), row_keys, saved, saved_arena);
  const ScratchScope scope(ctx.scratch);
  fill_hidden(ctx, gather(ctx, rows, x, row_keys, saved), saved);
}

TensorView Experts::forward(LayerContext& ctx, const RaggedRows& rows, TensorView x,
                            TensorView row_keys, Saved& saved, Arena& saved_arena,
                            Arena& arena) const {
  const Span span(ctx.tracer, Phase::kExperts);
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
  const Span span(ctx.tracer, Phase::kExperts);
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
  hidden_backward(ctx, in, saved, dhidden, part);
  if (is_sliced()) slices_.sum(ctx, saved.plan, part, dx);
  return dx;
}

void Experts::hidden_backward(LayerContext& ctx, const Inputs& in, const Saved& saved,
                              TensorView dhidden, TensorView dx) {
  const auto product = [&](TensorView dy, Weight& w, TensorView dinput) {
    grouped_weight_gradient(ctx, in.x, RowOrder::kIndexed, dy, RowOrder::kCompact, in.rows, w);
    grouped_input_gradient(ctx, dy, RowOrder::kCompact, w, in.rows, dinput, RowOrder::kIndexed);
  };
  if (!wg_) {
    activation_backward(ctx, options_.activation, saved.pre_activation, dhidden, dhidden);
    return product(dhidden, wi_, dx);
  }
  const TensorView dup = dhidden, dgate = ctx.scratch.allocate(dup.dtype(), dup.shape());
  gated_activation_backward(ctx, options_.activation, saved.pre_activation, saved.up, dhidden,
                            dgate, dup);
  const TensorView through_gate = ctx.scratch.allocate(dx.dtype(), dx.shape());
  product(dgate, *wg_, through_gate);
  product(dup, wi_, dx);
  add(ctx, dx, through_gate, dx);
}

void Experts::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&wi_, &wo_});
  if (wg_) weights.push_back(&*wg_);
}

}  // namespace switchyard
