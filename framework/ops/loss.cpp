#include "ops/loss.h"

#include "ops/argument_checks.h"

namespace switchyard {

void linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView h, Weight& w,
                          TensorView targets, LeafOffsets leaves, TensorView losses,
                          TensorView z_losses, TensorView dh) {
  const internal::ArgumentChecks check(ctx, "linear_cross_entropy");
  check.activation("h", h, 2);
  const int64_t rows = h.shape()[0], width = h.shape()[1], vocabulary = w.shape()[0];
  check.weight(w, h.dtype(), {vocabulary, width});
  check.same("targets", targets, DType::kInt32, {rows});
  check.same("losses", losses, DType::kFloat64, {rows});
  if (!z_losses.absent()) check.same("z losses", z_losses, DType::kFloat64, losses.shape());
  if (!dh.absent()) {
    check.same("dh", dh, h.dtype(), h.shape());
    check.boundaries("leaves", leaves, rows);
  } else if (rows == 0) {
    return;
  }
  // The logits; the gradients of h and w.
  ctx.count_products(dh.absent() ? 1 : 3, rows, vocabulary, width);
  // In training also without rows: the first write of a step makes w's gradient valid.
  ctx.kernels.linear_cross_entropy(ctx, objective, h, w, targets, leaves, losses, z_losses, dh);
}

}  // namespace switchyard
