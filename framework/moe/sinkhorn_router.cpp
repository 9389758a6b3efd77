#include "moe/sinkhorn_router.h"

#include "config/fields.h"

namespace switchyard {

namespace {

struct SinkhornRouting : Routing {
  TensorView gates;  // [T, E]: what an expert weighs where it is chosen
};

}  // namespace

void SinkhornRouterOptions::describe(Fields& f) {
  f.integer("top_k", top_k, {1, 256}, "experts",
            "Experts that each token goes to; with 1 they weigh the sigmoid of their logit, with "
            "more the softmax of all.");
  f.integer("iterations", iterations, {1, 1000}, "iterations",
            "Times that the experts' shares, then the tokens', are brought to their sums.");
}

SinkhornRouter::SinkhornRouter(const SinkhornRouterOptions& options, const RouterPlace& place)
    : options_(options), gate_(place.name, place, place.experts, 0.0) {}

std::unique_ptr<Routing> SinkhornRouter::make_routing() const {
  return std::make_unique<SinkhornRouting>();
}

void SinkhornRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                             Routing& base) {
  auto& routing = static_cast<SinkhornRouting&>(base);
  routing.gate_input = gate_.input(ctx, input);
  routing.logits = gate_.logits(ctx, routing.gate_input);
  const DType dtype = routing.logits.dtype();
  const Shape& shape = routing.logits.shape();
  routing.probs = ctx.saved.allocate(dtype, shape);
  softmax(ctx, routing.logits, routing.probs);
  routing.gates = routing.probs;
  if (uses_sigmoid()) {
    routing.gates = ctx.saved.allocate(dtype, shape);
    sigmoid(ctx, routing.logits, routing.gates);
  }
  routing.scores = routing.logits;
  if (ctx.training) {
    routing.scores = ctx.saved.allocate(dtype, shape);
    sinkhorn(ctx, routing.logits, input.routed, input.rows.group_offsets, options_.iterations,
             routing.scores);
  }
  routing.chosen = decided;
  if (decided.absent()) {
    routing.chosen = ctx.decisions.allocate(DType::kInt32, {shape[0], options_.top_k});
    choose_top_k(ctx, routing.scores, input.routed, routing.chosen);
  }
  routing.expert = routing.chosen;
  routing.weight = ctx.saved.allocate(dtype, {shape[0], options_.top_k});
  weights_.weigh(ctx, routing.gates, routing.expert, routing.weight);
}

void SinkhornRouter::reroute(LayerContext& ctx, TensorView landed, Routing& base) {
  auto& routing = static_cast<SinkhornRouting&>(base);
  routing.expert = landed;
  weights_.weigh(ctx, routing.gates, landed, routing.weight);
}

void SinkhornRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& base,
                              const RoutingGradient& gradient, TensorView dx) {
  const auto& routing = static_cast<const SinkhornRouting&>(base);
  const ScratchScope scope(ctx.scratch);
  TensorView dgates = gradient.dprobs;
  if (uses_sigmoid()) {
    dgates = ctx.scratch.allocate(dgates.dtype(), dgates.shape());
    fill_zero(ctx, dgates);
  }
  weights_.backward(ctx, routing.gates, routing.expert, gradient.dweight, dgates);
  if (uses_sigmoid()) {
    sigmoid_backward(ctx, routing.gates, dgates, gradient.dlogits, Write::kAccumulate);
  }
  softmax_backward(ctx, routing.probs, gradient.dprobs, gradient.dlogits, Write::kAccumulate);
  gate_.backward(ctx, input, routing.gate_input, gradient.dlogits, dx);
}

}  // namespace switchyard
