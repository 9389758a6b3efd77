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

void gradient_of_sums(ExecContext& ctx, Weight& weight) {
  SWITCHYARD_CHECK(weight.keeps_ordered_sums() && weight.gradient_written(), weight.name(),
                   ": no ordered sums to make a gradient of");
  if (weight.shape().elements() == 0) return;
  ctx.kernels.gradient_of_sums(ctx, weight);
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

void sgd(ExecContext& ctx, const SgdStep& step, TensorView weight, TensorView gradient,
         TensorView velocity) {
  const internal::ArgumentChecks check(ctx, "sgd");
  check.same("weight", weight, accurate(weight.dtype()), weight.shape());
  check.same("gradient", gradient, weight.dtype(), weight.shape());
  SWITCHYARD_CHECK(velocity.absent() == (step.momentum == 0), "sgd: momentum ", step.momentum,
                   velocity.absent() ? " without velocity" : " with velocity");
  if (!velocity.absent()) check.same("velocity", velocity, weight.dtype(), weight.shape());
  if (weight.elements() == 0) return;
  ctx.kernels.sgd(ctx, step, weight, gradient, velocity);
}

static void check_adafactor(const internal::ArgumentChecks& check, TensorView weight,
                            TensorView gradient, const AdafactorMoments& moments) {
  const Shape& shape = weight.shape();
  const bool factored = !moments.columns.absent();
  check.rank("weight", weight, accurate(weight.dtype()), factored ? 3 : 2);
  check.same("gradient", gradient, weight.dtype(), shape);
  check.same("row moments", moments.rows, weight.dtype(), {shape[0], shape[1]});
  if (factored) {
    check.same("column moments", moments.columns, weight.dtype(), {shape[0], shape[2]});
  }
}

void adafactor_moments(ExecContext& ctx, const AdafactorStep& step, TensorView weight,
                       TensorView gradient, const AdafactorMoments& moments, TensorView sums) {
  const internal::ArgumentChecks check(ctx, "adafactor_moments");
  check_adafactor(check, weight, gradient, moments);
  check.same("sums", sums, DType::kFloat64, {weight.shape()[0], 2});
  if (weight.elements() == 0) return;
  ctx.kernels.adafactor_moments(ctx, step, weight, gradient, moments, sums);
}

void adafactor_update(ExecContext& ctx, double gradient_scale, double decay, TensorView step_sizes,
                      TensorView weight, TensorView gradient, const AdafactorMoments& moments) {
  const internal::ArgumentChecks check(ctx, "adafactor_update");
  check_adafactor(check, weight, gradient, moments);
  check.same("step sizes", step_sizes, DType::kFloat64, {weight.shape()[0]});
  if (weight.elements() == 0) return;
  ctx.kernels.adafactor_update(ctx, gradient_scale, decay, step_sizes, weight, gradient, moments);
}

}  // namespace switchyard
