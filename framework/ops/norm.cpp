#include "ops/norm.h"

#include "ops/argument_checks.h"

namespace switchyard {

void rms_norm(ExecContext& ctx, TensorView x, const Weight& w, double epsilon, TensorView y,
              TensorView inverse_rms, NormRounding rounding) {
  const internal::ArgumentChecks check(ctx, "rms_norm");
  check.activation("x", x, 2);
  check.weight(w, x.dtype(), {x.shape()[1]});
  check.same("y", y, x.dtype(), x.shape());
  check.same("inverse_rms", inverse_rms, accurate(x.dtype()), {x.shape()[0]});
  if (x.elements() == 0) return;
  ctx.kernels.rms_norm(ctx, x, w, epsilon, rounding, y, inverse_rms);
}

void rms_norm_backward(ExecContext& ctx, TensorView x, TensorView inverse_rms, TensorView dy,
                       LeafOffsets leaves, TensorView dx, Write write, Weight& w) {
  const internal::ArgumentChecks check(ctx, "rms_norm_backward");
  check.activation("x", x, 2);
  check.weight(w, x.dtype(), {x.shape()[1]});
  check.same("inverse_rms", inverse_rms, accurate(x.dtype()), {x.shape()[0]});
  check.same("dy", dy, x.dtype(), x.shape());
  check.same("dx", dx, x.dtype(), x.shape());
  check.boundaries("leaves", leaves, x.shape()[0]);
  // Also without rows: the first write of a step makes the weight's gradient valid.
  ctx.kernels.rms_norm_backward(ctx, x, inverse_rms, dy, leaves, dx, write, w);
}

}  // namespace switchyard
