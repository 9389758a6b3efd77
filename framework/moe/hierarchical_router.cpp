#include "moe/hierarchical_router.h"

#include "config/fields.h"

namespace switchyard {

namespace {

struct HierarchicalRouting : Routing {
  TensorView group_probs;   // [T, n]
  TensorView inner_probs;   // [T, E]: each group's n-th of a row sums to 1
  TensorView group;         // int32 [T, k1]
  TensorView group_weight;  // [T, k1]
  TensorView inner_weight;  // [T, k1 * k2]
};

// [T, n * m] as [T * n, m], one row for each group.
TensorView rows_of_groups(TensorView x, int64_t groups) {
  return x.reshape({x.shape()[0] * groups, x.shape()[1] / groups});
}

}  // namespace

void GateGroupsOptions::describe(Fields& f) {
  f.integer("count", count, {2, 4096}, "groups", "Equal groups of consecutive experts.");
  f.integer("top", top, {1, 4096}, "groups", "Groups that the first gate chooses for a token.");
}

void HierarchicalRouterOptions::describe(Fields& f) {
  f.integer("top_k", top_k, {1, 256}, "experts",
            "Experts that each token goes to, top_k / groups.top in each of its groups.");
  f.section("groups", groups, "What the first gate chooses from.");
  f.boolean("normalize", normalize,
            "Whether each gate's weights are divided by the sum of those chosen, before any drop.");
}

HierarchicalRouter::HierarchicalRouter(const HierarchicalRouterOptions& options,
                                       const RouterPlace& place)
    : options_(options),
      experts_(place.experts),
      group_gate_(place.name + ".groups", place, options.groups.count, 0.0),
      gate_(place.name, place, place.experts, 0.0),
      weights_{.normalize = options.normalize} {
  SWITCHYARD_CHECK(experts_ % options.groups.count == 0 && options.groups.top >= 1 &&
                       options.groups.top <= options.groups.count &&
                       options.top_k % options.groups.top == 0 &&
                       options.top_k / options.groups.top <= group_experts(),
                   place.name, ": ", options.top_k, " experts in ", options.groups.top, " of ",
                   options.groups.count, " groups of ", experts_, " experts");
}

std::unique_ptr<Routing> HierarchicalRouter::make_routing() const {
  return std::make_unique<HierarchicalRouting>();
}

TensorView HierarchicalRouter::by_group(TensorView choices) const {
  return rows_of_groups(choices, options_.groups.top);
}

TensorView HierarchicalRouter::choose(LayerContext& ctx, const RouterInput& input,
                                      TensorView group_probs, TensorView inner_probs) const {
  const int64_t tokens = group_probs.shape()[0], groups = options_.groups.count;
  const int64_t each = options_.top_k / options_.groups.top;
  const TensorView chosen = ctx.decisions.allocate(DType::kInt32, {tokens, options_.top_k});
  const ScratchScope scope(ctx.scratch);
  const TensorView group = ctx.scratch.allocate(DType::kInt32, {tokens, options_.groups.top});
  const TensorView inner = ctx.scratch.allocate(DType::kInt32, {tokens * groups, each});
  choose_top_k(ctx, group_probs, input.routed, group);
  choose_top_k(ctx, rows_of_groups(inner_probs, groups), TensorView(), inner);
  join_choices(ctx, group, inner, group_experts(), chosen);
  return chosen;
}

void HierarchicalRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                                 Routing& base) {
  auto& routing = static_cast<HierarchicalRouting&>(base);
  const int64_t tokens = input.x.shape()[0], groups = options_.groups.count;
  routing.gate_input = gate_.input(ctx, input);
  routing.logits = gate_.logits(ctx, routing.gate_input);
  const DType dtype = routing.logits.dtype();
  const TensorView group_logits = group_gate_.logits(ctx, routing.gate_input);
  routing.group_probs = ctx.saved.allocate(dtype, group_logits.shape());
  softmax(ctx, group_logits, routing.group_probs);
  routing.inner_probs = ctx.saved.allocate(dtype, routing.logits.shape());
  softmax(ctx, rows_of_groups(routing.logits, groups), rows_of_groups(routing.inner_probs, groups));
  routing.probs = ctx.saved.allocate(dtype, routing.logits.shape());
  scale_column_groups(ctx, routing.inner_probs, routing.group_probs, routing.probs);
  routing.scores = routing.probs;

  routing.chosen =
      decided.absent() ? choose(ctx, input, routing.group_probs, routing.inner_probs) : decided;
  routing.expert = routing.chosen;
  routing.group = ctx.saved.allocate(DType::kInt32, {tokens, options_.groups.top});
  split_choices(ctx, routing.chosen, group_experts(), routing.group);
  routing.group_weight = ctx.saved.allocate(dtype, routing.group.shape());
  weights_.weigh(ctx, routing.group_probs, routing.group, routing.group_weight);
  routing.inner_weight = ctx.saved.allocate(dtype, routing.chosen.shape());
  gather_choices(ctx, routing.inner_probs, routing.chosen, routing.inner_weight);
  if (weights_.normalize) {
    const TensorView rows = by_group(routing.inner_weight);
    normalize_rows(ctx, rows, 1.0, rows);
  }
  routing.weight = ctx.saved.allocate(dtype, routing.chosen.shape());
  scale_column_groups(ctx, routing.inner_weight, routing.group_weight, routing.weight);
}

void HierarchicalRouter::reroute(LayerContext&, TensorView, Routing&) {
  SWITCHYARD_CHECK(false, "the hierarchical router was asked to reroute");
}

void HierarchicalRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& base,
                                  const RoutingGradient& gradient, TensorView dx) {
  const auto& routing = static_cast<const HierarchicalRouting&>(base);
  const int64_t groups = options_.groups.count;
  const ScratchScope scope(ctx.scratch);
  const auto like = [&](TensorView x) { return ctx.scratch.allocate(x.dtype(), x.shape()); };
  const TensorView dinner = like(routing.inner_probs), dgroup = like(routing.group_probs);
  scale_column_groups_backward(ctx, routing.inner_probs, routing.group_probs, gradient.dprobs,
                               dinner, dgroup, Write::kOverwrite);
  const TensorView dinner_weight = like(routing.inner_weight);
  const TensorView dgroup_weight = like(routing.group_weight);
  scale_column_groups_backward(ctx, routing.inner_weight, routing.group_weight, gradient.dweight,
                               dinner_weight, dgroup_weight, Write::kOverwrite);
  weights_.backward(ctx, routing.group_probs, routing.group, dgroup_weight, dgroup);
  if (weights_.normalize) {
    const TensorView chosen = like(routing.inner_weight), rows = by_group(dinner_weight);
    gather_choices(ctx, routing.inner_probs, routing.chosen, chosen);
    normalize_rows_backward(ctx, by_group(chosen), 1.0, rows, rows, Write::kOverwrite);
  }
  gather_choices_backward(ctx, routing.chosen, dinner_weight, dinner);

  softmax_backward(ctx, rows_of_groups(routing.inner_probs, groups), rows_of_groups(dinner, groups),
                   rows_of_groups(gradient.dlogits, groups), Write::kAccumulate);
  gate_.backward(ctx, input, routing.gate_input, gradient.dlogits, dx);
  const TensorView dgroup_logits = like(dgroup);
  softmax_backward(ctx, routing.group_probs, dgroup, dgroup_logits, Write::kOverwrite);
  group_gate_.backward(ctx, input, routing.gate_input, dgroup_logits, dx);
}

void HierarchicalRouter::collect_weights(std::vector<Weight*>& weights) {
  gate_.collect_weights(weights);
  group_gate_.collect_weights(weights);
}

}  // namespace switchyard
