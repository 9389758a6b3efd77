#include "ops/random_ops.h"

#include "ops/argument_checks.h"

namespace switchyard {
namespace {

void check_rows(const internal::ArgumentChecks& check, TensorView x, const RandomRows& random,
                TensorView y) {
  check.activation("x", x, 2);
  check.same("y", y, x.dtype(), x.shape());
  check.same("random rows' token", random.token, DType::kInt64, {x.shape()[0]});
  SWITCHYARD_CHECK(random.first_column >= 0, "random rows from column ", random.first_column);
}

}  // namespace

void dropout(ExecContext& ctx, TensorView x, double rate, const RandomRows& random, TensorView y) {
  check_rows(internal::ArgumentChecks(ctx, "dropout"), x, random, y);
  SWITCHYARD_CHECK(rate >= 0 && rate < 1, "dropout: rate ", rate);
  if (y.elements() == 0) return;
  ctx.kernels.dropout(ctx, x, rate, random, y);
}

void jitter(ExecContext& ctx, TensorView x, double epsilon, const RandomRows& random,
            TensorView y) {
  check_rows(internal::ArgumentChecks(ctx, "jitter"), x, random, y);
  SWITCHYARD_CHECK(epsilon >= 0 && epsilon < 1, "jitter: epsilon ", epsilon);
  if (y.elements() == 0) return;
  ctx.kernels.jitter(ctx, x, epsilon, random, y);
}

void uniform(ExecContext& ctx, const RandomRows& random, TensorView y) {
  const internal::ArgumentChecks check(ctx, "uniform");
  check.rank("y", y, accurate(y.dtype()), 2);
  check.same("random rows' token", random.token, DType::kInt64, {y.shape()[0]});
  if (y.elements() == 0) return;
  ctx.kernels.uniform(ctx, random, y);
}

}  // namespace switchyard
