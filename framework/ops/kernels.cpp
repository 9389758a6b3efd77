#include "ops/kernels.h"

namespace switchyard {

Tensor read_back(ExecContext& ctx, TensorView x) {
  SWITCHYARD_CHECK(!x.absent(), "read_back of a tensor that was not given");
  ctx.stream.synchronize();
  Tensor host(x.dtype(), x.shape());
  ctx.kernels.memory().copy_out(host.view().raw(), x.raw(), x.size_bytes());
  return host;
}

void upload_bytes(ExecContext& ctx, const void* host, TensorView x) {
  // Earlier work of the stream may still read what the copy replaces.
  ctx.stream.synchronize();
  ctx.kernels.memory().copy_in(x.raw(), host, x.size_bytes());
}

}  // namespace switchyard
