#include "ops/rotary.h"

#include <cmath>

#include "ops/argument_checks.h"

namespace switchyard {

void rotary_table(ExecContext& ctx, TensorView position, double theta, TensorView table) {
  const internal::ArgumentChecks check(ctx, "rotary_table");
  check.activation("table", table, 2);
  check.rank("table", table, accurate(table.dtype()), 2);
  check.same("position", position, DType::kInt32, {table.shape()[0]});
  SWITCHYARD_CHECK(table.shape()[1] % 2 == 0, "rotary_table: a head of ", table.shape()[1],
                   " features has no halves");
  SWITCHYARD_CHECK(theta > 0, "rotary_table: theta ", theta);
  if (table.elements() == 0) return;
  ctx.kernels.rotary_table(ctx, position, theta, table);
}

void rotate(ExecContext& ctx, TensorView x, TensorView table, Rotation rotation, TensorView y) {
  const internal::ArgumentChecks check(ctx, "rotate");
  check.activation("x", x, 3);
  check.same("table", table, accurate(x.dtype()), {x.shape()[0], x.shape()[2]});
  check.same("y", y, x.dtype(), x.shape());
  SWITCHYARD_CHECK(x.shape()[2] % 2 == 0, "rotate: a head of ", x.shape()[2],
                   " features has no halves");
  if (x.elements() == 0) return;
  ctx.kernels.rotate(ctx, x, table, rotation, y);
}

float rotary_frequency(int64_t i, int64_t width, double theta) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(width);
  return 1.0F / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
}

}  // namespace switchyard
