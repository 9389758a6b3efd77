#include "ops/loss.h"

#include "ops/argument_checks.h"

namespace switchyard {

void cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView logits,
                   TensorView targets, TensorView losses, TensorView z_losses, TensorView dlogits) {
  const internal::ArgumentChecks check(ctx, "cross_entropy");
  check.activation("logits", logits, 2);
  check.same("targets", targets, DType::kInt32, {logits.shape()[0]});
  check.same("losses", losses, DType::kFloat64, {logits.shape()[0]});
  if (!z_losses.absent()) check.same("z losses", z_losses, DType::kFloat64, losses.shape());
  if (!dlogits.absent()) check.same("dlogits", dlogits, logits.dtype(), logits.shape());
  if (losses.elements() == 0) return;
  ctx.kernels.cross_entropy(ctx, objective, logits, targets, losses, z_losses, dlogits);
}

}  // namespace switchyard
