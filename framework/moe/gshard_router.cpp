#include "moe/gshard_router.h"

namespace switchyard {

namespace {

struct GShardRouting : Routing {
  TensorView skipped;  // int32 [T, 2]: choices that `expert` lacks; absent outside training
};

// The probabilities of both choices [T, 2] in ctx.scratch, of skipped ones too: a first choice
// doesn't weigh more for a skipped second.
TensorView both_probabilities(LayerContext& ctx, const GShardRouting& routing) {
  const TensorView both = ctx.scratch.allocate(routing.weight.dtype(), routing.weight.shape());
  gather_choices(ctx, routing.probs, routing.expert, both);
  if (routing.skipped.absent()) return both;
  const TensorView of_skipped = ctx.scratch.allocate(both.dtype(), both.shape());
  gather_choices(ctx, routing.probs, routing.skipped, of_skipped);
  add(ctx, both, of_skipped, both);
  return both;
}

}  // namespace

GShardRouter::GShardRouter(const GShardRouterOptions&, const RouterPlace& place)
    : layer_(place.layer), gate_(place.name, place, place.experts, 0.0) {}

std::unique_ptr<Routing> GShardRouter::make_routing() const {
  return std::make_unique<GShardRouting>();
}

void GShardRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                           Routing& base) {
  auto& routing = static_cast<GShardRouting&>(base);
  routing.gate_input = gate_.input(ctx, input);
  routing.logits = gate_.logits(ctx, routing.gate_input);
  const Shape choices{input.x.shape()[0], 2};
  routing.probs = ctx.saved.allocate(routing.logits.dtype(), routing.logits.shape());
  softmax(ctx, routing.logits, routing.probs);
  routing.scores = routing.probs;
  routing.chosen = decided;
  if (decided.absent()) {
    routing.chosen = ctx.decisions.allocate(DType::kInt32, choices);
    choose_top_k(ctx, routing.probs, input.routed, routing.chosen);
  }
  routing.weight = ctx.saved.allocate(routing.logits.dtype(), choices);
  ChoiceWeights().weigh(ctx, routing.probs, routing.chosen, routing.weight);
  routing.expert = routing.chosen;
  routing.skipped = TensorView();
  if (ctx.training) {
    // What is sent outlives dropped activations; a replay sends the same again.
    Arena& arena = ctx.replay ? ctx.saved : ctx.decisions;
    routing.expert = arena.allocate(DType::kInt32, choices);
    routing.skipped = ctx.saved.allocate(DType::kInt32, choices);
    skip_choices(ctx, routing.chosen, routing.weight,
                 ctx.random(input.rows, layer_, Purpose::kRouterNoise), routing.expert,
                 routing.skipped);
  }
}

void GShardRouter::reroute(LayerContext& ctx, TensorView landed, Routing& base) {
  auto& routing = static_cast<GShardRouting&>(base);
  const ScratchScope scope(ctx.scratch);
  routing.expert = landed;
  normalize_rows(ctx, both_probabilities(ctx, routing), 1.0, routing.weight);
}

void GShardRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& base,
                            const RoutingGradient& gradient, TensorView dx) {
  const auto& routing = static_cast<const GShardRouting&>(base);
  const ScratchScope scope(ctx.scratch);
  const TensorView dweight = gradient.dweight;
  normalize_rows_backward(ctx, both_probabilities(ctx, routing), 1.0, dweight, dweight,
                          Write::kOverwrite);
  gather_choices_backward(ctx, routing.expert, dweight, gradient.dprobs);
  if (!routing.skipped.absent()) {
    gather_choices_backward(ctx, routing.skipped, dweight, gradient.dprobs);
  }
  softmax_backward(ctx, routing.probs, gradient.dprobs, gradient.dlogits, Write::kAccumulate);
  gate_.backward(ctx, input, routing.gate_input, gradient.dlogits, dx);
}

}  // namespace switchyard
