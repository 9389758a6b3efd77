#include "layers/lm_head.h"

#include <cmath>

namespace switchyard {

LmHead::LmHead(Weight& table, double scale, const LossOptions& options)
    : weight_(&table), scale_(scale), options_(options) {}

double LmHead::t5_scale(const Weight& table) {
  return 1.0 / std::sqrt(static_cast<double>(table.shape()[1]));
}

LmHead::LmHead(const std::string& name, int64_t vocabulary, int64_t d_model,
               const Initialisation& init, DType dtype, Memory& memory, uint64_t seed,
               const LossOptions& options)
    : own_(std::make_unique<Weight>(name, WeightRole::kDense, dtype, Shape{vocabulary, d_model},
                                    memory)),
      weight_(own_.get()),
      scale_(1.0),
      options_(options) {
  initialise(*own_, init.matrix(d_model), seed);
}

TensorView LmHead::logits(LayerContext& ctx, TensorView h, Saved& saved) {
  saved.h = h;
  if (scale_ != 1.0) {
    saved.h = ctx.saved.allocate(h.dtype(), h.shape());
    scale(ctx, h, scale_, saved.h);
  }
  const TensorView y = ctx.saved.allocate(h.dtype(), {h.shape()[0], weight_->shape()[0]});
  linear(ctx, saved.h, *weight_, y);
  return y;
}

TensorView LmHead::loss(LayerContext& ctx, TensorView h, TensorView targets, double gradient_scale,
                        Saved& saved) {
  const Span span(ctx.tracer, "head");
  const TensorView y = logits(ctx, h, saved);
  const TensorView losses = ctx.saved.allocate(DType::kFloat64, {h.shape()[0]});
  saved.dlogits = ctx.training ? y : TensorView();
  saved.output_z = ctx.training && options_.output_z > 0
                       ? ctx.saved.allocate(DType::kFloat64, losses.shape())
                       : TensorView();
  cross_entropy(ctx,
                {.gradient_scale = gradient_scale,
                 .label_smoothing = options_.label_smoothing,
                 .z = options_.output_z},
                y, targets, losses, saved.output_z, saved.dlogits);
  return losses;
}

void LmHead::backward(LayerContext& ctx, LeafOffsets leaves, const Saved& saved, TensorView dh) {
  const Span span(ctx.tracer, "head");
  linear_weight_gradient(ctx, saved.h, saved.dlogits, leaves, *weight_);
  linear_input_gradient(ctx, saved.dlogits, *weight_, dh, Write::kOverwrite);
  if (scale_ != 1.0) scale(ctx, dh, scale_, dh);
}

void LmHead::collect_weights(std::vector<Weight*>& weights) {
  if (own_) weights.push_back(own_.get());
}

}  // namespace switchyard
