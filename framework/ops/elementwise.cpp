#include "ops/elementwise.h"

#include "ops/argument_checks.h"

namespace switchyard {

void fill_zero(ExecContext& ctx, TensorView x) {
  if (x.elements() == 0) return;
  ctx.kernels.fill_zero(ctx, x);
}

void copy(ExecContext& ctx, TensorView x, TensorView y) {
  const internal::ArgumentChecks check(ctx, "copy");
  check.same("y", y, y.dtype(), x.shape());
  if (x.dtype() != y.dtype()) {
    check.activation("x", x, x.shape().rank());
    check.activation("y", y, y.shape().rank());
  }
  if (x.elements() == 0) return;
  ctx.kernels.copy(ctx, x, y);
}

void add(ExecContext& ctx, TensorView a, TensorView b, TensorView y) {
  const internal::ArgumentChecks check(ctx, "add");
  check.activation("a", a, a.shape().rank());
  check.same("b", b, a.dtype(), a.shape());
  check.same("y", y, a.dtype(), a.shape());
  if (y.elements() == 0) return;
  ctx.kernels.add(ctx, a, b, y);
}

void scale(ExecContext& ctx, TensorView x, double factor, TensorView y) {
  const internal::ArgumentChecks check(ctx, "scale");
  check.activation("x", x, x.shape().rank());
  check.same("y", y, x.dtype(), x.shape());
  if (y.elements() == 0) return;
  ctx.kernels.scale(ctx, x, factor, y);
}

void activation_backward(ExecContext& ctx, Activation activation, TensorView pre_activation,
                         TensorView dy, TensorView dx) {
  const internal::ArgumentChecks check(ctx, "activation_backward");
  check.activation("pre-activation", pre_activation, pre_activation.shape().rank());
  check.same("dy", dy, pre_activation.dtype(), pre_activation.shape());
  check.same("dx", dx, pre_activation.dtype(), pre_activation.shape());
  if (dx.elements() == 0) return;
  ctx.kernels.activation_backward(ctx, activation, pre_activation, dy, dx);
}

void gated_activation(ExecContext& ctx, Activation activation, TensorView gate, TensorView up,
                      TensorView y) {
  const internal::ArgumentChecks check(ctx, "gated_activation");
  check.activation("gate", gate, gate.shape().rank());
  check.same("up", up, gate.dtype(), gate.shape());
  check.same("y", y, gate.dtype(), gate.shape());
  if (y.elements() == 0) return;
  ctx.kernels.gated_activation(ctx, activation, gate, up, y);
}

void gated_activation_backward(ExecContext& ctx, Activation activation, TensorView gate,
                               TensorView up, TensorView dy, TensorView dgate, TensorView dup) {
  const internal::ArgumentChecks check(ctx, "gated_activation_backward");
  check.activation("gate", gate, gate.shape().rank());
  check.same("up", up, gate.dtype(), gate.shape());
  check.same("dy", dy, gate.dtype(), gate.shape());
  check.same("dgate", dgate, gate.dtype(), gate.shape());
  check.same("dup", dup, gate.dtype(), gate.shape());
  if (dy.elements() == 0) return;
  ctx.kernels.gated_activation_backward(ctx, activation, gate, up, dy, dgate, dup);
}

void embedding(ExecContext& ctx, const Weight& table, TensorView ids, TensorView y) {
  const internal::ArgumentChecks check(ctx, "embedding");
  check.activation("y", y, 2);
  check.rank("table", table.master(), accurate(y.dtype()), 2);
  check.weight(table, y.dtype(), {table.shape()[0], y.shape()[1]});
  check.same("ids", ids, DType::kInt32, {y.shape()[0]});
  if (y.elements() == 0) return;
  ctx.kernels.embedding(ctx, table, ids, y);
}

void embedding_gradient(ExecContext& ctx, TensorView ids, TensorView dy, LeafOffsets leaves,
                        Weight& table) {
  const internal::ArgumentChecks check(ctx, "embedding_gradient");
  check.activation("dy", dy, 2);
  check.rank("table", table.master(), accurate(dy.dtype()), 2);
  check.weight(table, dy.dtype(), {table.shape()[0], dy.shape()[1]});
  check.same("ids", ids, DType::kInt32, {dy.shape()[0]});
  check.boundaries("leaves", leaves, dy.shape()[0]);
  // Also without rows: the first write of a step makes the gradient valid.
  ctx.kernels.embedding_gradient(ctx, ids, dy, leaves, table);
}

void distance_bias(ExecContext& ctx, const Weight& table, TensorView bucket, TensorView bias) {
  const internal::ArgumentChecks check(ctx, "distance_bias");
  check.rank("table", table.master(), table.dtype(), 2);
  check.rank("bucket", bucket, DType::kInt32, 1);
  check.same("bias", bias, table.dtype(), {table.shape()[1], bucket.shape()[0]});
  if (bias.elements() == 0) return;
  ctx.kernels.distance_bias(ctx, table, bucket, bias);
}

void distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket, Weight& table) {
  const internal::ArgumentChecks check(ctx, "distance_bias_gradient");
  check.rank("table", table.master(), table.dtype(), 2);
  check.rank("bucket", bucket, DType::kInt32, 1);
  check.rank("dbias", dbias, table.dtype(), 3);
  check.same("dbias", dbias, table.dtype(),
             {dbias.shape()[0], table.shape()[1], bucket.shape()[0]});
  // Also without leaves: the first write of a step makes the gradient valid.
  ctx.kernels.distance_bias_gradient(ctx, dbias, bucket, table);
}

}  // namespace switchyard
