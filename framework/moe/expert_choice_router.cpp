#include "moe/expert_choice_router.h"

#include "config/fields.h"

namespace switchyard {

void ExpertChoiceRouterOptions::describe(Fields& f) {
  f.integer("top_k", top_k, {1, 256}, "experts",
            "Experts per token on the average where capacity's factor is 1: K in its formula.");
}

ExpertChoiceRouter::ExpertChoiceRouter(const ExpertChoiceRouterOptions& options,
                                       const RouterPlace& place)
    : top_k_(options.top_k),
      experts_(place.experts),
      gate_(place.name, place, place.experts, 0.0) {}

void ExpertChoiceRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                                 Routing& routing) {
  routing.gate_input = gate_.input(ctx, input);
  routing.logits = gate_.logits(ctx, routing.gate_input);
  const Shape& shape = routing.logits.shape();
  routing.probs = ctx.saved.allocate(routing.logits.dtype(), shape);
  softmax(ctx, routing.logits, routing.probs);
  routing.scores = routing.probs;
  routing.chosen = decided;
  if (decided.absent()) {
    routing.chosen = ctx.decisions.allocate(DType::kInt32, shape);
    choose_tokens(ctx, routing.probs, input.routed, input.rows.group_offsets, input.capacity,
                  routing.chosen);
  }
  routing.expert = routing.chosen;
  routing.weight = ctx.saved.allocate(routing.logits.dtype(), shape);
  weights_.weigh(ctx, routing.probs, routing.expert, routing.weight);
}

void ExpertChoiceRouter::reroute(LayerContext&, TensorView, Routing&) {
  SWITCHYARD_CHECK(false, "expert choice was asked to reroute");
}

void ExpertChoiceRouter::backward(LayerContext& ctx, const RouterInput& input,
                                  const Routing& routing, const RoutingGradient& gradient,
                                  TensorView dx) {
  weights_.backward(ctx, routing.probs, routing.expert, gradient.dweight, gradient.dprobs);
  softmax_backward(ctx, routing.probs, gradient.dprobs, gradient.dlogits, Write::kAccumulate);
  gate_.backward(ctx, input, routing.gate_input, gradient.dlogits, dx);
}

}  // namespace switchyard
