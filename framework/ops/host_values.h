// Values of a device for host code that runs in every step.
#pragma once

#include "base/reused_memory.h"
#include "ops/kernels.h"

namespace switchyard {

// Waits for the stream and copies a tensor to the host, as read_back_as does, into memory that the
// thread uses again (base/reused_memory.h).
template <typename T>
ReusedVector<T> host_values(ExecContext& ctx, TensorView x) {
  SWITCHYARD_CHECK(!x.absent() && x.data<T>() == x.raw(), "values of a tensor that was not given");
  ReusedVector<T> values(static_cast<size_t>(x.elements()));
  ctx.stream.synchronize();
  ctx.kernels.memory().copy_out(values.data(), x.raw(), x.size_bytes());
  return values;
}

}  // namespace switchyard
