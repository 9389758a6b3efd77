#include "moe/gate.h"

namespace switchyard {

Gate::Gate(const std::string& name, const RouterPlace& place, int64_t outputs, double jitter)
    : jitter_(jitter),
      layer_(place.layer),
      weight_(name, WeightRole::kRouter, place.dtype, {outputs, place.d_model}, place.memory) {
  initialise(weight_, place.initial, place.seed);
}

TensorView Gate::input(LayerContext& ctx, const RouterInput& input) const {
  const DType dtype = accurate(input.x.dtype());
  if (input.x.dtype() == dtype && !jitters(ctx)) return input.x;
  const TensorView seen = ctx.saved.allocate(dtype, input.x.shape());
  copy(ctx, input.x, seen);
  if (jitters(ctx)) jitter(ctx, seen, jitter_, noise(ctx, input.rows), seen);
  return seen;
}

TensorView Gate::logits(LayerContext& ctx, TensorView gate_input) const {
  const TensorView logits =
      ctx.saved.allocate(gate_input.dtype(), {gate_input.shape()[0], weight_.shape()[0]});
  linear(ctx, gate_input, weight_, logits);
  return logits;
}

void Gate::backward(LayerContext& ctx, const RouterInput& input, TensorView gate_input,
                    TensorView dlogits, TensorView dx) {
  const ScratchScope scope(ctx.scratch);
  linear_weight_gradient(ctx, gate_input, dlogits, input.rows.group_offsets, weight_);
  const TensorView dinput = ctx.scratch.allocate(gate_input.dtype(), gate_input.shape());
  linear_input_gradient(ctx, dlogits, weight_, dinput, Write::kOverwrite);
  if (jitters(ctx)) jitter(ctx, dinput, jitter_, noise(ctx, input.rows), dinput);
  TensorView addend = dinput;
  if (dx.dtype() != dinput.dtype()) {
    addend = ctx.scratch.allocate(dx.dtype(), dx.shape());
    copy(ctx, dinput, addend);
  }
  add(ctx, dx, addend, dx);
}

}  // namespace switchyard
