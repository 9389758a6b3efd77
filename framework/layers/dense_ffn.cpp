#include "layers/dense_ffn.h"

namespace switchyard {

DenseFfn::DenseFfn(const std::string& name, const Options& options, DType dtype, Memory& memory,
                   uint64_t seed)
    : options_(options),
      wi_(name + ".wi", WeightRole::kDense, dtype, {options.d_ff, options.d_model}, memory),
      wo_(name + ".wo", WeightRole::kDense, dtype, {options.d_model, options.d_ff}, memory) {
  initialise(wi_, options.init.matrix(options.d_model), seed);
  initialise(wo_, options.init.matrix(options.d_ff), seed);
  if (!options.gated) return;
  wg_.emplace(name + ".wg", WeightRole::kDense, dtype, wi_.shape(), memory);
  initialise(*wg_, options.init.matrix(options.d_model), seed);
}

std::unique_ptr<FeedForward::Saved> DenseFfn::make_saved() const {
  return std::make_unique<Saved>();
}

TensorView DenseFfn::forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                             FeedForward::Saved& base) {
  auto& saved = static_cast<Saved&>(base);
  const Shape inner{rows.tokens(), options_.d_ff};
  saved.pre_activation = ctx.saved.allocate(x.dtype(), inner);
  saved.hidden = ctx.saved.allocate(x.dtype(), inner);
  const TensorView y = ctx.saved.allocate(x.dtype(), x.shape());
  if (wg_) {
    saved.up = ctx.saved.allocate(x.dtype(), inner);
    linear(ctx, x, *wg_, saved.pre_activation);
    linear(ctx, x, wi_, saved.up);
    gated_activation(ctx, options_.activation, saved.pre_activation, saved.up, saved.hidden);
  } else {
    linear(ctx, x, wi_, saved.hidden, {options_.activation, saved.pre_activation});
  }
  if (ctx.training && options_.dropout > 0) {
    dropout(ctx, saved.hidden, options_.dropout,
            ctx.random(rows, options_.layer, Purpose::kFfnInnerDropout), saved.hidden);
  }
  linear(ctx, saved.hidden, wo_, y);
  return y;
}

void DenseFfn::backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                        const FeedForward::Saved& base, TensorView dy, TensorView dx) {
  const auto& saved = static_cast<const Saved&>(base);
  const ScratchScope scope(ctx.scratch);
  const TensorView dhidden = ctx.scratch.allocate(x.dtype(), saved.hidden.shape());
  linear_weight_gradient(ctx, saved.hidden, dy, rows.group_offsets, wo_);
  linear_input_gradient(ctx, dy, wo_, dhidden, Write::kOverwrite);
  if (ctx.training && options_.dropout > 0) {
    dropout(ctx, dhidden, options_.dropout,
            ctx.random(rows, options_.layer, Purpose::kFfnInnerDropout), dhidden);
  }
  const TensorView dup = dhidden;
  if (wg_) {
    const TensorView dgate = ctx.scratch.allocate(x.dtype(), saved.hidden.shape());
    gated_activation_backward(ctx, options_.activation, saved.pre_activation, saved.up, dhidden,
                              dgate, dup);
    linear_weight_gradient(ctx, x, dgate, rows.group_offsets, *wg_);
    linear_input_gradient(ctx, dgate, *wg_, dx, Write::kOverwrite);
  } else {
    activation_backward(ctx, options_.activation, saved.pre_activation, dhidden, dup);
  }
  linear_weight_gradient(ctx, x, dup, rows.group_offsets, wi_);
  linear_input_gradient(ctx, dup, wi_, dx, wg_ ? Write::kAccumulate : Write::kOverwrite);
}

void DenseFfn::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&wi_, &wo_});
  if (wg_) weights.push_back(&*wg_);
}

}  // namespace switchyard
