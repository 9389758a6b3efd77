#include "ops/gating.h"

#include "ops/argument_checks.h"

namespace switchyard {
namespace {

using internal::ArgumentChecks;

void check_mask(const ArgumentChecks& check, TensorView mask, int64_t tokens) {
  if (!mask.absent()) check.same("mask", mask, DType::kUint8, {tokens});
}

// x [T, N] and y of the same dtype and shape, as most operations here take them.
void check_pair(const ArgumentChecks& check, std::string_view x_name, TensorView x,
                std::string_view y_name, TensorView y) {
  check.scores(x_name, x);
  check.same(y_name, y, x.dtype(), x.shape());
}

void check_random(const ArgumentChecks& check, const RandomRows& random, int64_t rows) {
  check.same("random rows' token", random.token, DType::kInt64, {rows});
  SWITCHYARD_CHECK(random.first_column >= 0, "random rows from column ", random.first_column);
}

}  // namespace

void sigmoid(ExecContext& ctx, TensorView logits, TensorView scores) {
  check_pair(ArgumentChecks(ctx, "sigmoid"), "logits", logits, "scores", scores);
  if (scores.elements() == 0) return;
  ctx.kernels.sigmoid(ctx, logits, scores);
}

void sigmoid_backward(ExecContext& ctx, TensorView scores, TensorView dscores, TensorView dlogits,
                      Write write) {
  const ArgumentChecks check(ctx, "sigmoid_backward");
  check_pair(check, "scores", scores, "dscores", dscores);
  check.same("dlogits", dlogits, scores.dtype(), scores.shape());
  if (dlogits.elements() == 0) return;
  ctx.kernels.sigmoid_backward(ctx, scores, dscores, dlogits, write);
}

void normalize_rows(ExecContext& ctx, TensorView x, double factor, TensorView y) {
  check_pair(ArgumentChecks(ctx, "normalize_rows"), "x", x, "y", y);
  if (y.elements() == 0) return;
  ctx.kernels.normalize_rows(ctx, x, factor, y);
}

void normalize_rows_backward(ExecContext& ctx, TensorView x, double factor, TensorView dy,
                             TensorView dx, Write write) {
  const ArgumentChecks check(ctx, "normalize_rows_backward");
  check_pair(check, "x", x, "dy", dy);
  check.same("dx", dx, x.dtype(), x.shape());
  if (dx.elements() == 0) return;
  ctx.kernels.normalize_rows_backward(ctx, x, factor, dy, dx, write);
}

void add_row(ExecContext& ctx, TensorView x, TensorView row, TensorView y) {
  const ArgumentChecks check(ctx, "add_row");
  check_pair(check, "x", x, "y", y);
  check.same("row", row, x.dtype(), {x.shape()[1]});
  if (y.elements() == 0) return;
  ctx.kernels.add_row(ctx, x, row, y);
}

void keep_best_groups(ExecContext& ctx, TensorView scores, int64_t expert_groups, int64_t top,
                      int64_t each, TensorView masked) {
  check_pair(ArgumentChecks(ctx, "keep_best_groups"), "scores", scores, "masked", masked);
  const int64_t experts = scores.shape()[1];
  SWITCHYARD_CHECK(expert_groups >= 1 && experts % expert_groups == 0 && top >= 1 &&
                       top <= expert_groups && each >= 1 && each <= experts / expert_groups,
                   "keep_best_groups: ", top, " of ", expert_groups, " groups of ", experts,
                   " experts by ", each, " of each");
  if (masked.elements() == 0) return;
  ctx.kernels.keep_best_groups(ctx, scores, expert_groups, top, each, masked);
}

void add_noise(ExecContext& ctx, TensorView logits, TensorView noise_logits,
               const RandomRows& random, TensorView noisy) {
  const ArgumentChecks check(ctx, "add_noise");
  check_pair(check, "logits", logits, "noise logits", noise_logits);
  check.same("noisy", noisy, logits.dtype(), logits.shape());
  check_random(check, random, logits.shape()[0]);
  if (noisy.elements() == 0) return;
  ctx.kernels.add_noise(ctx, logits, noise_logits, random, noisy);
}

void add_noise_backward(ExecContext& ctx, TensorView noise_logits, const RandomRows& random,
                        TensorView dnoisy, TensorView dnoise_logits, Write write) {
  const ArgumentChecks check(ctx, "add_noise_backward");
  check_pair(check, "noise logits", noise_logits, "dnoisy", dnoisy);
  check.same("dnoise logits", dnoise_logits, noise_logits.dtype(), noise_logits.shape());
  check_random(check, random, noise_logits.shape()[0]);
  if (dnoise_logits.elements() == 0) return;
  ctx.kernels.add_noise_backward(ctx, noise_logits, random, dnoisy, dnoise_logits, write);
}

static void check_load(const ArgumentChecks& check, TensorView logits, TensorView noise_logits,
                       TensorView noisy, int64_t choices) {
  check_pair(check, "logits", logits, "noise logits", noise_logits);
  check.same("noisy", noisy, logits.dtype(), logits.shape());
  SWITCHYARD_CHECK(choices >= 1 && choices <= logits.shape()[1], "smooth_load: ", choices, " of ",
                   logits.shape()[1], " experts");
}

void smooth_load(ExecContext& ctx, TensorView logits, TensorView noise_logits, TensorView noisy,
                 int64_t choices, TensorView load) {
  const ArgumentChecks check(ctx, "smooth_load");
  check_load(check, logits, noise_logits, noisy, choices);
  check.same("load", load, logits.dtype(), logits.shape());
  if (load.elements() == 0) return;
  ctx.kernels.smooth_load(ctx, logits, noise_logits, noisy, choices, load);
}

void smooth_load_backward(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                          TensorView noisy, int64_t choices, TensorView dload, TensorView dlogits,
                          TensorView dnoise_logits, TensorView dnoisy, Write write) {
  const ArgumentChecks check(ctx, "smooth_load_backward");
  check_load(check, logits, noise_logits, noisy, choices);
  check.same("dload", dload, logits.dtype(), logits.shape());
  check.same("dlogits", dlogits, logits.dtype(), logits.shape());
  check.same("dnoise logits", dnoise_logits, logits.dtype(), logits.shape());
  check.same("dnoisy", dnoisy, logits.dtype(), logits.shape());
  if (dlogits.elements() == 0) return;
  ctx.kernels.smooth_load_backward(ctx, logits, noise_logits, noisy, choices, dload, dlogits,
                                   dnoise_logits, dnoisy, write);
}

void cv_squared(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                TensorView cv) {
  const ArgumentChecks check(ctx, "cv_squared");
  check.scores("values", values);
  check_mask(check, mask, values.shape()[0]);
  check.boundaries("groups", groups, values.shape()[0]);
  check.same("cv", cv, DType::kFloat64, {static_cast<int64_t>(groups.size()) - 1});
  if (cv.elements() == 0) return;
  ctx.kernels.cv_squared(ctx, values, mask, groups, cv);
}

void cv_squared_gradient(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                         double factor, TensorView dvalues) {
  const ArgumentChecks check(ctx, "cv_squared_gradient");
  check_pair(check, "values", values, "dvalues", dvalues);
  check_mask(check, mask, values.shape()[0]);
  check.boundaries("groups", groups, values.shape()[0]);
  if (dvalues.elements() == 0) return;
  ctx.kernels.cv_squared_gradient(ctx, values, mask, groups, factor, dvalues);
}

void skip_choices(ExecContext& ctx, TensorView expert, TensorView weight, const RandomRows& random,
                  TensorView sent, TensorView skipped) {
  const ArgumentChecks check(ctx, "skip_choices");
  check.scores("weight", weight);
  check.same("weight", weight, weight.dtype(), {weight.shape()[0], 2});
  check.same("expert", expert, DType::kInt32, weight.shape());
  check.same("sent", sent, DType::kInt32, weight.shape());
  check.same("skipped", skipped, DType::kInt32, weight.shape());
  check_random(check, random, weight.shape()[0]);
  if (sent.elements() == 0) return;
  ctx.kernels.skip_choices(ctx, expert, weight, random, sent, skipped);
}

void choose_tokens(ExecContext& ctx, TensorView probs, TensorView mask, LeafOffsets groups,
                   int64_t capacity, TensorView expert) {
  const ArgumentChecks check(ctx, "choose_tokens");
  check.scores("probs", probs);
  check_mask(check, mask, probs.shape()[0]);
  check.boundaries("groups", groups, probs.shape()[0]);
  check.same("expert", expert, DType::kInt32, probs.shape());
  SWITCHYARD_CHECK(capacity >= 0, "choose_tokens: capacity ", capacity);
  if (expert.elements() == 0) return;
  ctx.kernels.choose_tokens(ctx, probs, mask, groups, capacity, expert);
}

void sinkhorn(ExecContext& ctx, TensorView logits, TensorView mask, LeafOffsets groups,
              int64_t iterations, TensorView assignment) {
  const ArgumentChecks check(ctx, "sinkhorn");
  check_pair(check, "logits", logits, "assignment", assignment);
  check_mask(check, mask, logits.shape()[0]);
  check.boundaries("groups", groups, logits.shape()[0]);
  SWITCHYARD_CHECK(iterations >= 1, "sinkhorn: ", iterations, " iterations");
  if (assignment.elements() == 0) return;
  ctx.kernels.sinkhorn(ctx, logits, mask, groups, iterations, assignment);
}

// x [T, N] and one number for each of its n groups of columns, [T, n].
static void check_column_groups(const ArgumentChecks& check, TensorView x, std::string_view name,
                                TensorView each) {
  check.scores("x", x);
  check.scores(name, each);
  check.same(name, each, x.dtype(), {x.shape()[0], each.shape()[1]});
  SWITCHYARD_CHECK(each.shape()[1] >= 1 && x.shape()[1] % each.shape()[1] == 0, name, ": ",
                   x.shape()[1], " columns in ", each.shape()[1], " groups");
}

void scale_column_groups(ExecContext& ctx, TensorView x, TensorView factor, TensorView y) {
  const ArgumentChecks check(ctx, "scale_column_groups");
  check_column_groups(check, x, "factor", factor);
  check.same("y", y, x.dtype(), x.shape());
  if (y.elements() == 0) return;
  ctx.kernels.scale_column_groups(ctx, x, factor, y);
}

void scale_column_groups_backward(ExecContext& ctx, TensorView x, TensorView factor, TensorView dy,
                                  TensorView dx, TensorView dfactor, Write write) {
  const ArgumentChecks check(ctx, "scale_column_groups_backward");
  check_column_groups(check, x, "factor", factor);
  check.same("dy", dy, x.dtype(), x.shape());
  check.same("dx", dx, x.dtype(), x.shape());
  check.same("dfactor", dfactor, x.dtype(), factor.shape());
  if (dx.elements() == 0) return;
  ctx.kernels.scale_column_groups_backward(ctx, x, factor, dy, dx, dfactor, write);
}

void sum_column_groups(ExecContext& ctx, TensorView x, TensorView y) {
  check_column_groups(ArgumentChecks(ctx, "sum_column_groups"), x, "y", y);
  if (y.elements() == 0) return;
  ctx.kernels.sum_column_groups(ctx, x, y);
}

void join_choices(ExecContext& ctx, TensorView group, TensorView inner, int64_t experts_per_group,
                  TensorView expert) {
  const ArgumentChecks check(ctx, "join_choices");
  check.rank("group", group, DType::kInt32, 2);
  check.rank("inner", inner, DType::kInt32, 2);
  const int64_t tokens = group.shape()[0];
  check.same("expert", expert, DType::kInt32, {tokens, group.shape()[1] * inner.shape()[1]});
  SWITCHYARD_CHECK(experts_per_group >= 1 && (tokens == 0 || inner.shape()[0] % tokens == 0),
                   "join_choices: inner ", inner.shape(), " for ", tokens, " tokens and groups of ",
                   experts_per_group, " experts");
  if (expert.elements() == 0) return;
  ctx.kernels.join_choices(ctx, group, inner, experts_per_group, expert);
}

void split_choices(ExecContext& ctx, TensorView expert, int64_t experts_per_group,
                   TensorView group) {
  const ArgumentChecks check(ctx, "split_choices");
  check.rank("expert", expert, DType::kInt32, 2);
  check.rank("group", group, DType::kInt32, 2);
  check.same("group", group, DType::kInt32, {expert.shape()[0], group.shape()[1]});
  SWITCHYARD_CHECK(
      experts_per_group >= 1 && group.shape()[1] >= 1 && expert.shape()[1] % group.shape()[1] == 0,
      "split_choices: expert ", expert.shape(), " into groups ", group.shape());
  if (group.elements() == 0) return;
  ctx.kernels.split_choices(ctx, expert, experts_per_group, group);
}

void look_up_choices(ExecContext& ctx, TensorView table, TensorView ids, TensorView mask,
                     TensorView expert) {
  const ArgumentChecks check(ctx, "look_up_choices");
  check.rank("table", table, DType::kInt32, 1);
  check.rank("ids", ids, DType::kInt32, 1);
  check_mask(check, mask, ids.shape()[0]);
  check.same("expert", expert, DType::kInt32, {ids.shape()[0], 1});
  if (expert.elements() == 0) return;
  ctx.kernels.look_up_choices(ctx, table, ids, mask, expert);
}

}  // namespace switchyard
