#include "ops/mat_mul.h"

#include "ops/argument_checks.h"

namespace switchyard {

void linear(ExecContext& ctx, TensorView x, const Weight& w, TensorView y,
            const Epilogue& epilogue) {
  const internal::ArgumentChecks check(ctx, "linear");
  check.activation("x", x, 2);
  check.activation("y", y, 2);
  const int64_t rows = x.shape()[0], out = y.shape()[1];
  check.weight(w, x.dtype(), {out, x.shape()[1]});
  check.same("y", y, x.dtype(), {rows, out});
  if (!epilogue.saved_pre_activation.absent()) {
    check.same("saved pre-activation", epilogue.saved_pre_activation, x.dtype(), {rows, out});
  }
  if (rows == 0) return;
  ctx.count_products(1, rows, out, x.shape()[1]);
  ctx.kernels.linear(ctx, x, w, y, epilogue);
}

void linear_input_gradient(ExecContext& ctx, TensorView dy, const Weight& w, TensorView dx,
                           Write write) {
  const internal::ArgumentChecks check(ctx, "linear_input_gradient");
  check.activation("dy", dy, 2);
  check.activation("dx", dx, 2);
  const int64_t rows = dy.shape()[0], in = dx.shape()[1];
  check.weight(w, dy.dtype(), {dy.shape()[1], in});
  check.same("dx", dx, dy.dtype(), {rows, in});
  if (rows == 0) return;
  ctx.count_products(1, rows, in, dy.shape()[1]);
  ctx.kernels.linear_input_gradient(ctx, dy, w, dx, write);
}

void linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy, LeafOffsets leaves,
                            Weight& w) {
  const internal::ArgumentChecks check(ctx, "linear_weight_gradient");
  check.activation("x", x, 2);
  check.activation("dy", dy, 2);
  const int64_t rows = x.shape()[0], out = dy.shape()[1];
  check.weight(w, x.dtype(), {out, x.shape()[1]});
  check.same("dy", dy, x.dtype(), {rows, out});
  check.boundaries("leaves", leaves, rows);
  ctx.count_products(1, out, x.shape()[1], rows);
  // Also without rows: the first write of a step makes the gradient valid.
  ctx.kernels.linear_weight_gradient(ctx, x, dy, leaves, w);
}

}  // namespace switchyard
