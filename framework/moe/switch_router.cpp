#include "moe/switch_router.h"

#include <cmath>

#include "config/fields.h"
#include "layers/initialise.h"

namespace switchyard {

void SwitchRouterOptions::describe(Fields& f) {
  f.real("jitter", jitter, {0.0, 0.5}, "ratio",
         "Multiplies the gate's input by uniform noise in [1 - jitter, 1 + jitter], in training.");
}

SwitchRouter::SwitchRouter(const std::string& name, const SwitchRouterOptions& options,
                           int64_t experts, int64_t d_model, double init_scale, uint16_t layer,
                           DType dtype, Memory& memory, uint64_t seed)
    : jitter_(options.jitter),
      layer_(layer),
      gate_(name, WeightRole::kRouter, dtype, {experts, d_model}, memory) {
  const double deviation = std::sqrt(init_scale / static_cast<double>(d_model));
  initialise(gate_, Initial::truncated_normal(deviation), seed);
}

Routing SwitchRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided) {
  const DType dtype = accurate(input.x.dtype());
  const int64_t tokens = input.x.shape()[0], experts = gate_.shape()[0];
  Routing routing;
  routing.gate_input = input.x;
  if (input.x.dtype() != dtype || jitters(ctx)) {
    routing.gate_input = ctx.saved.allocate(dtype, input.x.shape());
    copy(ctx, input.x, routing.gate_input);
  }
  if (jitters(ctx)) {
    // Only the gate's input: the experts see the token as it is (Mesh-TensorFlow).
    jitter(ctx, routing.gate_input, jitter_, ctx.random(input.rows, layer_, Purpose::kJitter),
           routing.gate_input);
  }
  routing.logits = ctx.saved.allocate(dtype, {tokens, experts});
  routing.probs = ctx.saved.allocate(dtype, {tokens, experts});
  routing.weight = ctx.saved.allocate(dtype, {tokens, 1});
  linear(ctx, routing.gate_input, gate_, routing.logits);
  softmax(ctx, routing.logits, routing.probs);
  routing.expert = decided;
  if (decided.absent()) {
    routing.expert = ctx.decisions.allocate(DType::kInt32, {tokens, 1});
    choose_top_k(ctx, routing.probs, input.routed, routing.expert);
  }
  gather_choices(ctx, routing.probs, routing.expert, routing.weight);
  return routing;
}

void SwitchRouter::reroute(LayerContext& ctx, TensorView landed, Routing& routing) {
  routing.expert = landed;
  gather_choices(ctx, routing.probs, landed, routing.weight);
}

void SwitchRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                            TensorView dweight, TensorView dprobs, TensorView dlogits,
                            TensorView dx) {
  const ScratchScope scope(ctx.scratch);
  gather_choices_backward(ctx, routing.expert, dweight, dprobs);
  softmax_backward(ctx, routing.probs, dprobs, dlogits, Write::kAccumulate);
  linear_weight_gradient(ctx, routing.gate_input, dlogits, input.rows.group_offsets, gate_);

  const TensorView dgate_input =
      ctx.scratch.allocate(routing.gate_input.dtype(), routing.gate_input.shape());
  linear_input_gradient(ctx, dlogits, gate_, dgate_input, Write::kOverwrite);
  if (jitters(ctx)) {
    jitter(ctx, dgate_input, jitter_, ctx.random(input.rows, layer_, Purpose::kJitter),
           dgate_input);
  }
  TensorView addend = dgate_input;
  if (dx.dtype() != dgate_input.dtype()) {
    addend = ctx.scratch.allocate(dx.dtype(), dx.shape());
    copy(ctx, dgate_input, addend);
  }
  add(ctx, dx, addend, dx);
}

void SwitchRouter::collect_weights(std::vector<Weight*>& weights) { weights.push_back(&gate_); }

}  // namespace switchyard
