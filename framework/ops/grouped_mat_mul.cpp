#include "ops/grouped_mat_mul.h"

#include "ops/argument_checks.h"

namespace switchyard {
namespace {

void check_ragged_rows(const internal::ArgumentChecks& check, const RaggedRows& rows,
                       int64_t experts, bool indexed) {
  SWITCHYARD_CHECK(static_cast<int64_t>(rows.offsets.size()) == experts + 1, rows.offsets.size(),
                   " row offsets for ", experts, " experts");
  check.boundaries("row offsets", rows.offsets, rows.rows());
  if (indexed) check.same("row index", rows.index, DType::kInt32, {rows.rows()});
  if (!rows.scale.absent()) check.same("row scale", rows.scale, DType::kFloat32, {rows.rows()});
  if (!rows.leaf_offsets.empty()) check.boundaries("leaves", rows.leaf_offsets, rows.rows());
}

// A compact tensor has at least the rows of the call; how many an indexed one must have only its
// index knows.
Shape least_shape(RowOrder order, const RaggedRows& rows, int64_t columns) {
  return {order == RowOrder::kCompact ? rows.rows() : 0, columns};
}

}  // namespace

void grouped_linear(ExecContext& ctx, TensorView x, RowOrder x_order, const Weight& w,
                    const RaggedRows& rows, TensorView y, RowOrder y_order,
                    const Epilogue& epilogue) {
  const internal::ArgumentChecks check(ctx, "grouped_linear");
  check.activation("x", x, 2);
  check.activation("y", y, 2);
  const int64_t in = x.shape()[1], out = y.shape()[1];
  check.weight(w, x.dtype(), {rows.experts(), out, in});
  check_ragged_rows(check, rows, w.shape()[0],
                    x_order == RowOrder::kIndexed || y_order == RowOrder::kIndexed);
  check.at_least("x", x, x.dtype(), least_shape(x_order, rows, in));
  check.at_least("y", y, x.dtype(), least_shape(y_order, rows, out));
  if (!epilogue.saved_pre_activation.absent()) {
    check.at_least("saved pre-activation", epilogue.saved_pre_activation, x.dtype(),
                   {rows.rows(), out});
  }
  if (rows.rows() == 0) return;
  ctx.count_products(1, rows.rows(), out, in);
  ctx.kernels.grouped_linear(ctx, x, x_order, w, rows, y, y_order, epilogue);
}

void grouped_input_gradient(ExecContext& ctx, TensorView dy, RowOrder dy_order, const Weight& w,
                            const RaggedRows& rows, TensorView dx, RowOrder dx_order) {
  const internal::ArgumentChecks check(ctx, "grouped_input_gradient");
  check.activation("dy", dy, 2);
  check.activation("dx", dx, 2);
  const int64_t out = dy.shape()[1], in = dx.shape()[1];
  check.weight(w, dy.dtype(), {rows.experts(), out, in});
  check_ragged_rows(check, rows, w.shape()[0],
                    dy_order == RowOrder::kIndexed || dx_order == RowOrder::kIndexed);
  check.at_least("dy", dy, dy.dtype(), least_shape(dy_order, rows, out));
  check.at_least("dx", dx, dy.dtype(), least_shape(dx_order, rows, in));
  if (rows.rows() == 0) return;
  ctx.count_products(1, rows.rows(), in, out);
  ctx.kernels.grouped_input_gradient(ctx, dy, dy_order, w, rows, dx, dx_order);
}

void grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order, TensorView dy,
                             RowOrder dy_order, const RaggedRows& rows, Weight& w) {
  const internal::ArgumentChecks check(ctx, "grouped_weight_gradient");
  check.activation("x", x, 2);
  check.activation("dy", dy, 2);
  const int64_t in = x.shape()[1], out = dy.shape()[1];
  check.weight(w, x.dtype(), {rows.experts(), out, in});
  check_ragged_rows(check, rows, w.shape()[0],
                    x_order == RowOrder::kIndexed || dy_order == RowOrder::kIndexed);
  check.at_least("x", x, x.dtype(), least_shape(x_order, rows, in));
  check.at_least("dy", dy, x.dtype(), least_shape(dy_order, rows, out));
  ctx.count_products(1, out, in, rows.rows());
  // Also without rows: the first write of a step makes the gradient valid.
  SWITCHYARD_CHECK(!ctx.ordered || rows.rows() == 0 || !rows.leaf_offsets.empty(),
                   "an ordered gradient of ", w.name(), " without leaves");
  ctx.kernels.grouped_weight_gradient(ctx, x, x_order, dy, dy_order, rows, w);
}

}  // namespace switchyard
