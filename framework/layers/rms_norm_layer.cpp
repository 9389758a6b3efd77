#include "layers/rms_norm_layer.h"

#include "layers/initialise.h"

namespace switchyard {

RmsNormLayer::RmsNormLayer(const std::string& name, int64_t d_model, double epsilon, DType dtype,
                           Memory& memory, NormRounding rounding)
    : epsilon_(epsilon),
      rounding_(rounding),
      scale_(name, WeightRole::kNorm, dtype, {d_model}, memory) {
  initialise(scale_, Initial::constant(1.0), 0);
}

TensorView RmsNormLayer::forward(LayerContext& ctx, TensorView x, Saved& saved) {
  saved.x = x;
  saved.inverse_rms = ctx.saved.allocate(accurate(x.dtype()), {x.shape()[0]});
  const TensorView y = ctx.saved.allocate(x.dtype(), x.shape());
  rms_norm(ctx, x, scale_, epsilon_, y, saved.inverse_rms, rounding_);
  return y;
}

void RmsNormLayer::backward(LayerContext& ctx, LeafOffsets leaves, const Saved& saved,
                            TensorView dy, TensorView dx, Write write) {
  rms_norm_backward(ctx, saved.x, saved.inverse_rms, dy, leaves, dx, write, scale_);
}

void RmsNormLayer::collect_weights(std::vector<Weight*>& weights) { weights.push_back(&scale_); }

}  // namespace switchyard
