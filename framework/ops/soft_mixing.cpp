#include "ops/soft_mixing.h"

#include "ops/argument_checks.h"

namespace switchyard {
namespace {

using internal::ArgumentChecks;

// weights [T, N], x [T, D], rows [B * N, D]; counts the product of each sequence.
void check_mixing(ExecContext& ctx, const ArgumentChecks& check, TensorView weights, TensorView x,
                  LeafOffsets sequences, TensorView rows) {
  check.activation("x", x, 2);
  check.scores("weights", weights);
  const int64_t tokens = x.shape()[0], width = x.shape()[1], slots = weights.shape()[1];
  check.same("weights", weights, accurate(x.dtype()), {tokens, slots});
  check.boundaries("sequences", sequences, tokens);
  const int64_t count = static_cast<int64_t>(sequences.size()) - 1;
  check.same("rows", rows, x.dtype(), {count * slots, width});
  ctx.count_products(1, tokens, width, slots);
}

}  // namespace

void softmax_over_tokens(ExecContext& ctx, TensorView logits, TensorView mask,
                         LeafOffsets sequences, TensorView weights) {
  const ArgumentChecks check(ctx, "softmax_over_tokens");
  check.scores("logits", logits);
  if (!mask.absent()) check.same("mask", mask, DType::kUint8, {logits.shape()[0]});
  check.boundaries("sequences", sequences, logits.shape()[0]);
  check.same("weights", weights, logits.dtype(), logits.shape());
  if (weights.elements() == 0) return;
  ctx.kernels.softmax_over_tokens(ctx, logits, mask, sequences, weights);
}

void softmax_over_tokens_backward(ExecContext& ctx, TensorView weights, TensorView dweights,
                                  LeafOffsets sequences, TensorView dlogits, Write write) {
  const ArgumentChecks check(ctx, "softmax_over_tokens_backward");
  check.scores("weights", weights);
  check.same("dweights", dweights, weights.dtype(), weights.shape());
  check.boundaries("sequences", sequences, weights.shape()[0]);
  check.same("dlogits", dlogits, weights.dtype(), weights.shape());
  if (dlogits.elements() == 0) return;
  ctx.kernels.softmax_over_tokens_backward(ctx, weights, dweights, sequences, dlogits, write);
}

void mix_rows(ExecContext& ctx, TensorView weights, TensorView x, LeafOffsets sequences,
              TensorView rows) {
  check_mixing(ctx, ArgumentChecks(ctx, "mix_rows"), weights, x, sequences, rows);
  if (rows.elements() == 0) return;
  ctx.kernels.mix_rows(ctx, weights, x, sequences, rows);
}

void unmix_rows(ExecContext& ctx, TensorView weights, TensorView rows, LeafOffsets sequences,
                TensorView y, Write write) {
  check_mixing(ctx, ArgumentChecks(ctx, "unmix_rows"), weights, y, sequences, rows);
  if (y.elements() == 0) return;
  ctx.kernels.unmix_rows(ctx, weights, rows, sequences, y, write);
}

void mixing_gradient(ExecContext& ctx, TensorView x, TensorView rows, LeafOffsets sequences,
                     TensorView dweights, Write write) {
  check_mixing(ctx, ArgumentChecks(ctx, "mixing_gradient"), dweights, x, sequences, rows);
  if (dweights.elements() == 0) return;
  ctx.kernels.mixing_gradient(ctx, x, rows, sequences, dweights, write);
}

}  // namespace switchyard
