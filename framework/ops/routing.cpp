#include "ops/routing.h"

#include "ops/argument_checks.h"

namespace switchyard {
namespace {

using internal::ArgumentChecks;

// expert [T, K] with 1 <= K <= E
void check_choices(const ArgumentChecks& check, std::string_view name, TensorView expert,
                   int64_t tokens, int64_t experts) {
  check.rank(name, expert, DType::kInt32, 2);
  check.same(name, expert, DType::kInt32, {tokens, expert.shape()[1]});
  SWITCHYARD_CHECK(expert.shape()[1] >= 1 && expert.shape()[1] <= experts, name, " ",
                   expert.shape(), " among ", experts, " experts");
}

void check_real(const ArgumentChecks& check, TensorView real, int64_t tokens) {
  if (!real.absent()) check.same("real", real, DType::kUint8, {tokens});
}

void check_statistics(const ArgumentChecks& check, const RoutingStatistics& statistics,
                      LeafOffsets group_offsets, int64_t tokens, int64_t experts) {
  check.boundaries("groups", group_offsets, tokens);
  const int64_t groups = static_cast<int64_t>(group_offsets.size()) - 1;
  check.same("tokens", statistics.tokens, DType::kInt64, {groups});
  check.same("chosen", statistics.chosen, DType::kInt64, {groups, experts});
  check.same("mean_probability", statistics.mean_probability, DType::kFloat64, {groups, experts});
  check.same("mean_square_lse", statistics.mean_square_lse, DType::kFloat64, {groups});
  check.same("entropy", statistics.entropy, DType::kFloat64, {groups});
  check.same("top_probability", statistics.top_probability, DType::kFloat64, {groups});
}

}  // namespace

void softmax(ExecContext& ctx, TensorView logits, TensorView probs) {
  const ArgumentChecks check(ctx, "softmax");
  check.scores("logits", logits);
  check.same("probs", probs, logits.dtype(), logits.shape());
  if (probs.elements() == 0) return;
  ctx.kernels.softmax(ctx, logits, probs);
}

void softmax_backward(ExecContext& ctx, TensorView probs, TensorView dprobs, TensorView dlogits,
                      Write write) {
  const ArgumentChecks check(ctx, "softmax_backward");
  check.scores("probs", probs);
  check.same("dprobs", dprobs, probs.dtype(), probs.shape());
  check.same("dlogits", dlogits, probs.dtype(), probs.shape());
  if (dlogits.elements() == 0) return;
  ctx.kernels.softmax_backward(ctx, probs, dprobs, dlogits, write);
}

void choose_top_k(ExecContext& ctx, TensorView scores, TensorView mask, TensorView expert) {
  const ArgumentChecks check(ctx, "choose_top_k");
  check.scores("scores", scores);
  check_choices(check, "expert", expert, scores.shape()[0], scores.shape()[1]);
  if (!mask.absent()) check.same("mask", mask, DType::kUint8, {scores.shape()[0]});
  if (expert.elements() == 0) return;
  ctx.kernels.choose_top_k(ctx, scores, mask, expert);
}

void mask_choices(ExecContext& ctx, TensorView expert, TensorView mask, TensorView masked) {
  const ArgumentChecks check(ctx, "mask_choices");
  check.rank("expert", expert, DType::kInt32, 2);
  check.same("mask", mask, DType::kUint8, {expert.shape()[0]});
  check.same("masked", masked, DType::kInt32, expert.shape());
  if (masked.elements() == 0) return;
  ctx.kernels.mask_choices(ctx, expert, mask, masked);
}

void gather_choices(ExecContext& ctx, TensorView probs, TensorView expert, TensorView weight) {
  const ArgumentChecks check(ctx, "gather_choices");
  check.scores("probs", probs);
  check_choices(check, "expert", expert, probs.shape()[0], probs.shape()[1]);
  check.same("weight", weight, probs.dtype(), expert.shape());
  if (weight.elements() == 0) return;
  ctx.kernels.gather_choices(ctx, probs, expert, weight);
}

void gather_choices_backward(ExecContext& ctx, TensorView expert, TensorView dweight,
                             TensorView dprobs) {
  const ArgumentChecks check(ctx, "gather_choices_backward");
  check.scores("dprobs", dprobs);
  check_choices(check, "expert", expert, dprobs.shape()[0], dprobs.shape()[1]);
  check.same("dweight", dweight, dprobs.dtype(), expert.shape());
  if (dweight.elements() == 0) return;
  ctx.kernels.gather_choices_backward(ctx, expert, dweight, dprobs);
}

void routing_statistics(ExecContext& ctx, TensorView logits, TensorView probs, TensorView expert,
                        TensorView real, LeafOffsets groups, const RoutingStatistics& statistics) {
  const ArgumentChecks check(ctx, "routing_statistics");
  check.scores("probs", probs);
  if (!logits.absent()) check.same("logits", logits, probs.dtype(), probs.shape());
  check_choices(check, "expert", expert, probs.shape()[0], probs.shape()[1]);
  check_real(check, real, probs.shape()[0]);
  check_statistics(check, statistics, groups, probs.shape()[0], probs.shape()[1]);
  if (groups.size() == 1) return;
  ctx.kernels.routing_statistics(ctx, logits, probs, expert, real, groups, statistics);
}

void load_balance_gradient(ExecContext& ctx, TensorView real, LeafOffsets groups,
                           const RoutingStatistics& statistics, int64_t choices,
                           int64_t group_experts, double factor, TensorView dprobs) {
  const ArgumentChecks check(ctx, "load_balance_gradient");
  check.scores("dprobs", dprobs);
  check_real(check, real, dprobs.shape()[0]);
  check_statistics(check, statistics, groups, dprobs.shape()[0], dprobs.shape()[1]);
  SWITCHYARD_CHECK(choices >= 1 && group_experts >= 1 && dprobs.shape()[1] % group_experts == 0,
                   "load_balance_gradient: ", choices, " choices, ", dprobs.shape()[1],
                   " experts in groups of ", group_experts);
  if (dprobs.elements() == 0) return;
  ctx.kernels.load_balance_gradient(ctx, real, groups, statistics, choices, group_experts, factor,
                                    dprobs);
}

void router_z_gradient(ExecContext& ctx, TensorView logits, TensorView real, LeafOffsets groups,
                       const RoutingStatistics& statistics, double factor, TensorView dlogits) {
  const ArgumentChecks check(ctx, "router_z_gradient");
  check.scores("logits", logits);
  check_real(check, real, logits.shape()[0]);
  check_statistics(check, statistics, groups, logits.shape()[0], logits.shape()[1]);
  check.same("dlogits", dlogits, logits.dtype(), logits.shape());
  if (dlogits.elements() == 0) return;
  ctx.kernels.router_z_gradient(ctx, logits, real, groups, statistics, factor, dlogits);
}

static void check_plan(const ArgumentChecks& check, std::string_view operation, TensorView expert,
                       TensorView priority, LeafOffsets groups, int64_t experts, int64_t capacity,
                       TensorView kept) {
  check.rank("expert", expert, DType::kInt32, 2);
  check_choices(check, "expert", expert, expert.shape()[0], experts);
  check.same("kept", kept, DType::kInt32, expert.shape());
  if (!priority.absent()) {
    check.scores("priority", priority);
    check.same("priority", priority, priority.dtype(), expert.shape());
  }
  check.boundaries("groups", groups, expert.shape()[0]);
  SWITCHYARD_CHECK(capacity >= 0, operation, ": capacity ", capacity);
}

void plan_capacity(ExecContext& ctx, TensorView expert, TensorView priority, LeafOffsets groups,
                   int64_t experts, int64_t capacity, TensorView kept) {
  constexpr std::string_view kName = "plan_capacity";
  check_plan(ArgumentChecks(ctx, kName), kName, expert, priority, groups, experts, capacity, kept);
  if (kept.elements() == 0) return;
  ctx.kernels.plan_capacity(ctx, expert, priority, groups, experts, capacity, kept);
}

void plan_reroute(ExecContext& ctx, TensorView scores, TensorView expert, TensorView priority,
                  LeafOffsets groups, int64_t capacity, TensorView kept) {
  constexpr std::string_view kName = "plan_reroute";
  const ArgumentChecks check(ctx, kName);
  check.scores("scores", scores);
  check.same("scores", scores, scores.dtype(), {expert.shape()[0], scores.shape()[1]});
  check_plan(check, kName, expert, priority, groups, scores.shape()[1], capacity, kept);
  if (kept.elements() == 0) return;
  ctx.kernels.plan_reroute(ctx, scores, expert, priority, groups, capacity, kept);
}

void drop_statistics(ExecContext& ctx, TensorView expert, TensorView kept, TensorView weight,
                     TensorView dropped, TensorView weights) {
  const ArgumentChecks check(ctx, "drop_statistics");
  check.rank("expert", expert, DType::kInt32, 2);
  check.same("kept", kept, DType::kInt32, expert.shape());
  check.scores("weight", weight);
  check.same("weight", weight, weight.dtype(), expert.shape());
  check.same("dropped", dropped, DType::kInt64, {expert.shape()[1]});
  check.same("weights", weights, DType::kFloat64, {2});
  // Also without tokens: the sums are then 0.
  ctx.kernels.drop_statistics(ctx, expert, kept, weight, dropped, weights);
}

void count_choices(ExecContext& ctx, TensorView kept, LeafOffsets groups, TensorView counts) {
  const ArgumentChecks check(ctx, "count_choices");
  check.rank("kept", kept, DType::kInt32, 2);
  check.boundaries("groups", groups, kept.shape()[0]);
  check.rank("counts", counts, DType::kInt64, 2);
  check.same("counts", counts, DType::kInt64,
             {static_cast<int64_t>(groups.size()) - 1, counts.shape()[1]});
  if (counts.elements() == 0) return;
  ctx.kernels.count_choices(ctx, kept, groups, counts);
}

void order_choices(ExecContext& ctx, TensorView kept, int64_t experts, TensorView source,
                   TensorView position) {
  const ArgumentChecks check(ctx, "order_choices");
  check.rank("kept", kept, DType::kInt32, 2);
  check.same("source", source, DType::kInt32, {kept.elements()});
  check.same("position", position, DType::kInt32, kept.shape());
  if (kept.elements() == 0) return;
  ctx.kernels.order_choices(ctx, kept, experts, source, position);
}

void gather_row_keys(ExecContext& ctx, TensorView token, TensorView source, int64_t choices,
                     TensorView keys) {
  const ArgumentChecks check(ctx, "gather_row_keys");
  check.rank("token", token, DType::kInt64, 1);
  check.rank("keys", keys, DType::kInt64, 1);
  check.at_least("source", source, DType::kInt32, {keys.shape()[0]});
  // The key has one byte for the choice (base/random.h).
  SWITCHYARD_CHECK(choices >= 1 && choices <= 256, "gather_row_keys: ", choices,
                   " choices per token");
  if (keys.elements() == 0) return;
  ctx.kernels.gather_row_keys(ctx, token, source, choices, keys);
}

void gather_rows(ExecContext& ctx, TensorView x, TensorView source, int64_t choices,
                 TensorView rows) {
  const ArgumentChecks check(ctx, "gather_rows");
  check.activation("x", x, 2);
  check.activation("rows", rows, 2);
  check.same("rows", rows, x.dtype(), {rows.shape()[0], x.shape()[1]});
  check.at_least("source", source, DType::kInt32, {rows.shape()[0]});
  SWITCHYARD_CHECK(choices >= 1, "gather_rows: ", choices, " choices per token");
  if (rows.elements() == 0) return;
  ctx.kernels.gather_rows(ctx, x, source, choices, rows);
}

void combine_rows(ExecContext& ctx, TensorView rows, TensorView position, TensorView weight,
                  TensorView y) {
  const ArgumentChecks check(ctx, "combine_rows");
  check.activation("rows", rows, 2);
  check.rank("position", position, DType::kInt32, 2);
  check.same("y", y, rows.dtype(), {position.shape()[0], rows.shape()[1]});
  if (!weight.absent()) check.same("weight", weight, accurate(rows.dtype()), position.shape());
  if (y.elements() == 0) return;
  ctx.kernels.combine_rows(ctx, rows, position, weight, y);
}

void combine_rows_backward(ExecContext& ctx, TensorView rows, TensorView source,
                           TensorView position, TensorView weight, TensorView dy, TensorView drows,
                           TensorView dweight) {
  const ArgumentChecks check(ctx, "combine_rows_backward");
  check.activation("rows", rows, 2);
  check.rank("position", position, DType::kInt32, 2);
  check.at_least("source", source, DType::kInt32, {rows.shape()[0]});
  check.same("dy", dy, rows.dtype(), {position.shape()[0], rows.shape()[1]});
  check.same("drows", drows, rows.dtype(), rows.shape());
  SWITCHYARD_CHECK(weight.absent() == dweight.absent(),
                   "combine_rows_backward: weights and their gradient come together");
  if (!weight.absent()) {
    check.same("weight", weight, accurate(rows.dtype()), position.shape());
    check.same("dweight", dweight, weight.dtype(), position.shape());
  }
  if (position.elements() == 0) return;
  ctx.kernels.combine_rows_backward(ctx, rows, source, position, weight, dy, drows, dweight);
}

RoutingStatistics allocate_statistics(Arena& arena, int64_t groups, int64_t experts) {
  return {.tokens = arena.allocate(DType::kInt64, {groups}),
          .chosen = arena.allocate(DType::kInt64, {groups, experts}),
          .mean_probability = arena.allocate(DType::kFloat64, {groups, experts}),
          .mean_square_lse = arena.allocate(DType::kFloat64, {groups}),
          .entropy = arena.allocate(DType::kFloat64, {groups}),
          .top_probability = arena.allocate(DType::kFloat64, {groups})};
}

}  // namespace switchyard
