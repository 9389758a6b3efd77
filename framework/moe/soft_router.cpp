#include "moe/soft_router.h"

#include "config/fields.h"
#include "ops/host_values.h"

namespace switchyard {

namespace {

struct SoftRouting : SlotRouting {
  TensorView dispatch;             // [T, N]: each token's share in each slot
  std::vector<int64_t> sequences;  // [B + 1], token boundaries
};

}  // namespace

void SoftRouterOptions::describe(Fields& f) {
  f.integer_or(
      "auto", "slots_per_expert", slots_per_expert, {1, 65536}, "slots",
      "Rows that each expert computes for each sequence, in training and evaluation; auto: "
      "the stack's length times capacity.train_factor / experts, rounded up.");
}

SoftRouter::SoftRouter(const SoftRouterOptions& options, const RouterPlace& place)
    : experts_(place.experts),
      slots_(options.slots_per_expert.value_or(place.slots)),
      gate_(place.name, place, place.experts * slots_, 0.0) {
  SWITCHYARD_CHECK(slots_ >= 1, place.name, ": ", slots_, " slots for each expert");
}

std::unique_ptr<Routing> SoftRouter::make_routing() const {
  return std::make_unique<SoftRouting>();
}

void SoftRouter::number_slots(LayerContext& ctx, const TokenRows& tokens,
                              SlotRouting& routing) const {
  const int64_t slots = experts_ * slots_;  // of a sequence
  const auto index = host_values<int64_t>(ctx, tokens.global_index);
  ReusedVector<int32_t> expert;
  ReusedVector<int64_t> slot_index;
  expert.reserve(static_cast<size_t>(tokens.sequences * slots));
  slot_index.reserve(static_cast<size_t>(tokens.sequences * slots));
  for (int64_t b = 0; b < tokens.sequences; ++b) {
    const int64_t sequence = index[static_cast<size_t>(b * tokens.length)] / tokens.length;
    for (int64_t n = 0; n < slots; ++n) {
      expert.push_back(static_cast<int32_t>(n / slots_));
      slot_index.push_back(sequence * slots + n);
    }
  }
  const int64_t rows = tokens.sequences * slots;
  routing.expert_of_slot = ctx.saved.allocate(DType::kInt32, {rows, 1});
  upload<int32_t>(ctx, expert, routing.expert_of_slot);
  const TensorView global_index = ctx.saved.allocate(DType::kInt64, {rows});
  upload<int64_t>(ctx, slot_index, global_index);
  routing.group_offsets.clear();
  for (const int64_t sequence : tokens.group_sequences) {
    routing.group_offsets.push_back(sequence * slots);
  }
  routing.rows = {.sequences = tokens.sequences,
                  .length = slots,
                  .global_index = global_index,
                  .group_offsets = routing.group_offsets,
                  .group_sequences = tokens.group_sequences,
                  .group_tokens = tokens.group_tokens / tokens.length * slots,
                  .groups_of_global_batch = tokens.groups_of_global_batch};
}

void SoftRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                         Routing& base) {
  auto& routing = static_cast<SoftRouting&>(base);
  const TokenRows& tokens = input.rows;
  number_slots(ctx, tokens, routing);
  routing.sequences.clear();
  for (int64_t b = 0; b <= tokens.sequences; ++b) {
    routing.sequences.push_back(b * tokens.length);
  }
  routing.gate_input = gate_.input(ctx, input);
  const TensorView logits = gate_.logits(ctx, routing.gate_input);
  const DType dtype = logits.dtype();
  routing.dispatch = ctx.saved.allocate(dtype, logits.shape());
  softmax_over_tokens(ctx, logits, input.routed, routing.sequences, routing.dispatch);
  routing.weight = ctx.saved.allocate(dtype, logits.shape());
  softmax(ctx, logits, routing.weight);
  routing.slots = ctx.saved.allocate(input.x.dtype(),
                                     {tokens.sequences * logits.shape()[1], input.x.shape()[1]});
  mix_rows(ctx, routing.dispatch, input.x, routing.sequences, routing.slots);

  routing.probs = ctx.saved.allocate(dtype, {logits.shape()[0], experts_});
  sum_column_groups(ctx, routing.weight, routing.probs);
  routing.scores = routing.probs;
  routing.chosen = decided;
  if (decided.absent()) {
    routing.chosen = ctx.decisions.allocate(DType::kInt32, {logits.shape()[0], 1});
    choose_top_k(ctx, routing.probs, input.routed, routing.chosen);
  }
  routing.expert = routing.chosen;
}

void SoftRouter::reroute(LayerContext&, TensorView, Routing&) {
  SWITCHYARD_CHECK(false, "the soft router was asked to reroute");
}

TensorView SoftRouter::spread(LayerContext& ctx, const RouterInput& input, const SlotRouting& base,
                              TensorView results) {
  const auto& routing = static_cast<const SoftRouting&>(base);
  const TensorView y = ctx.saved.allocate(input.x.dtype(), input.x.shape());
  unmix_rows(ctx, routing.weight, results, routing.sequences, y, Write::kOverwrite);
  return y;
}

void SoftRouter::spread_backward(LayerContext& ctx, const RouterInput&, const SlotRouting& base,
                                 TensorView results, TensorView dy, TensorView dresults,
                                 TensorView dweight) {
  const auto& routing = static_cast<const SoftRouting&>(base);
  mix_rows(ctx, routing.weight, dy, routing.sequences, dresults);
  mixing_gradient(ctx, dy, results, routing.sequences, dweight, Write::kOverwrite);
}

void SoftRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& base,
                          const RoutingGradient& gradient, TensorView dx) {
  const auto& routing = static_cast<const SoftRouting&>(base);
  const ScratchScope scope(ctx.scratch);
  const auto like = [&](TensorView x) { return ctx.scratch.allocate(x.dtype(), x.shape()); };
  const TensorView ddispatch = like(routing.dispatch), dlogits = like(routing.weight);
  mixing_gradient(ctx, input.x, gradient.dslots, routing.sequences, ddispatch, Write::kOverwrite);
  softmax_backward(ctx, routing.weight, gradient.dweight, dlogits, Write::kOverwrite);
  softmax_over_tokens_backward(ctx, routing.dispatch, ddispatch, routing.sequences, dlogits,
                               Write::kAccumulate);
  unmix_rows(ctx, routing.dispatch, gradient.dslots, routing.sequences, dx, Write::kAccumulate);
  gate_.backward(ctx, input, routing.gate_input, dlogits, dx);
}

}  // namespace switchyard
