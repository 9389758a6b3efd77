#include "moe/noisy_top_k_router.h"

#include "config/fields.h"

namespace switchyard {

namespace {

struct NoisyRouting : Routing {
  TensorView noise_logits;  // [T, E], in training
};

// The noise gate starts at 0: a deviation of softplus(0) = ln 2 on every logit (Shazeer 2017,
// appendix A).
RouterPlace with_zeros(RouterPlace place) {
  place.initial = Initial::constant(0);
  return place;
}

}  // namespace

void NoisyTopKRouterOptions::describe(Fields& f) {
  f.integer("top_k", top_k, {2, 256}, "experts", "Experts that each token goes to.");
}

NoisyTopKRouter::NoisyTopKRouter(const NoisyTopKRouterOptions& options, const RouterPlace& place)
    : top_k_(options.top_k),
      layer_(place.layer),
      gate_(place.name, place, place.experts, 0.0),
      noise_gate_(place.name + ".noise", with_zeros(place), place.experts, 0.0) {}

std::unique_ptr<Routing> NoisyTopKRouter::make_routing() const {
  return std::make_unique<NoisyRouting>();
}

void NoisyTopKRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                              Routing& base) {
  auto& routing = static_cast<NoisyRouting&>(base);
  routing.gate_input = gate_.input(ctx, input);
  routing.logits = gate_.logits(ctx, routing.gate_input);
  const DType dtype = routing.logits.dtype();
  const Shape& shape = routing.logits.shape();
  routing.scores = routing.logits;
  routing.smooth_load = TensorView();
  if (ctx.training) {
    routing.noise_logits = noise_gate_.logits(ctx, routing.gate_input);
    routing.scores = ctx.saved.allocate(dtype, shape);
    add_noise(ctx, routing.logits, routing.noise_logits, noise(ctx, input.rows), routing.scores);
    routing.smooth_load = ctx.saved.allocate(dtype, shape);
    smooth_load(ctx, routing.logits, routing.noise_logits, routing.scores, top_k_,
                routing.smooth_load);
  }
  routing.probs = ctx.saved.allocate(dtype, shape);
  softmax(ctx, routing.scores, routing.probs);
  routing.chosen = decided;
  if (decided.absent()) {
    routing.chosen = ctx.decisions.allocate(DType::kInt32, {shape[0], top_k_});
    choose_top_k(ctx, routing.scores, input.routed, routing.chosen);
  }
  routing.expert = routing.chosen;
  routing.weight = ctx.saved.allocate(dtype, {shape[0], top_k_});
  weights_.weigh(ctx, routing.probs, routing.expert, routing.weight);
}

void NoisyTopKRouter::reroute(LayerContext& ctx, TensorView landed, Routing& routing) {
  routing.expert = landed;
  weights_.weigh(ctx, routing.probs, landed, routing.weight);
}

void NoisyTopKRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& base,
                               const RoutingGradient& gradient, TensorView dx) {
  const auto& routing = static_cast<const NoisyRouting&>(base);
  const ScratchScope scope(ctx.scratch);
  const TensorView dnoisy = ctx.scratch.allocate(routing.probs.dtype(), routing.probs.shape());
  weights_.backward(ctx, routing.probs, routing.expert, gradient.dweight, gradient.dprobs);
  softmax_backward(ctx, routing.probs, gradient.dprobs, dnoisy, Write::kOverwrite);
  if (ctx.training) {
    const TensorView dnoise = ctx.scratch.allocate(dnoisy.dtype(), dnoisy.shape());
    fill_zero(ctx, dnoise);
    smooth_load_backward(ctx, routing.logits, routing.noise_logits, routing.scores, top_k_,
                         gradient.dsmooth_load, gradient.dlogits, dnoise, dnoisy,
                         Write::kAccumulate);
    add_noise_backward(ctx, routing.noise_logits, noise(ctx, input.rows), dnoisy, dnoise,
                       Write::kAccumulate);
    noise_gate_.backward(ctx, input, routing.gate_input, dnoise, dx);
  }
  add(ctx, gradient.dlogits, dnoisy, gradient.dlogits);
  gate_.backward(ctx, input, routing.gate_input, gradient.dlogits, dx);
}

void NoisyTopKRouter::collect_weights(std::vector<Weight*>& weights) {
  gate_.collect_weights(weights);
  noise_gate_.collect_weights(weights);
}

}  // namespace switchyard
