#include "ops/update.h"

#include "ops/argument_checks.h"

namespace switchyard {

void sum_of_squares(ExecContext& ctx, TensorView x, TensorView sum) {
  const internal::ArgumentChecks check(ctx, "sum_of_squares");
  check.same("x", x, accurate(x.dtype()), x.shape());
  check.same("sum", sum, DType::kFloat64, {1});
  // Also without elements: the sum is then 0.
  ctx.kernels.sum_of_squares(ctx, x, sum);
}

void adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight, TensorView gradient,
           TensorView first, TensorView second) {
  const internal::ArgumentChecks check(ctx, "adamw");
  check.same("weight", weight, accurate(weight.dtype()), weight.shape());
  check.same("gradient", gradient, weight.dtype(), weight.shape());
  check.same("first moment", first, weight.dtype(), weight.shape());
  check.same("second moment", second, weight.dtype(), weight.shape());
  SWITCHYARD_CHECK(step.step >= 1, "adamw: step ", step.step, ", must count from 1");
  if (weight.elements() == 0) return;
  ctx.kernels.adamw(ctx, step, weight, gradient, first, second);
}

}  // namespace switchyard
