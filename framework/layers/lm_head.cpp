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

TensorView LmHead::scaled(LayerContext& ctx, TensorView h) const {
  if (scale_ == 1.0) return h;
  const TensorView scaled = ctx.scratch.allocate(h.dtype(), h.shape());
  scale(ctx, h, scale_, scaled);
  return scaled;
}

TensorView LmHead::logits(LayerContext& ctx, TensorView h) {
  const ScratchScope scope(ctx.scratch);
  const TensorView y = ctx.saved.allocate(h.dtype(), {h.shape()[0], weight_->shape()[0]});
  linear(ctx, scaled(ctx, h), *weight_, y);
  return y;
}

TensorView LmHead::loss(LayerContext& ctx, TensorView h, TensorView targets, LeafOffsets leaves,
                        double gradient_scale, Saved& saved) {
  const Span span(ctx.tracer, "head");
  const ScratchScope scope(ctx.scratch);
  const TensorView losses = ctx.saved.allocate(DType::kFloat64, {h.shape()[0]});
  saved = {};
  if (ctx.training) {
    saved.dh = ctx.saved.allocate(h.dtype(), h.shape());
    if (options_.output_z > 0) saved.output_z = ctx.saved.allocate(losses.dtype(), losses.shape());
  }
  linear_cross_entropy(ctx,
                       {.gradient_scale = gradient_scale,
                        .label_smoothing = options_.label_smoothing,
                        .z = options_.output_z},
                       scaled(ctx, h), *weight_, targets, leaves, losses, saved.output_z, saved.dh);
  if (ctx.training && scale_ != 1.0) scale(ctx, saved.dh, scale_, saved.dh);
  return losses;
}

void LmHead::collect_weights(std::vector<Weight*>& weights) {
  if (own_) weights.push_back(own_.get());
}

}  // namespace switchyard
