// A backend as the rest of the program sees it: the sum of the kernel interfaces, and the memory
// and streams of its device. Nothing returns a host value but read_back (below).
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/gating.h"
#include "ops/grouped_mat_mul.h"
#include "ops/loss.h"
#include "ops/mat_mul.h"
#include "ops/norm.h"
#include "ops/random_ops.h"
#include "ops/rotary.h"
#include "ops/routing.h"
#include "ops/soft_mixing.h"
#include "ops/update.h"

namespace switchyard {

class Kernels : public MatMul,
                public GroupedMatMul,
                public Attention,
                public Rotary,
                public Norm,
                public Elementwise,
                public RandomOps,
                public RoutingOps,
                public GatingOps,
                public SoftMixing,
                public Loss,
                public Update {
 public:
  virtual std::string_view name() const = 0;  // "reference", "cpu"
  virtual Memory& memory() = 0;
  virtual std::unique_ptr<Stream> make_stream() = 0;
  // Whether activations may have this dtype.
  virtual bool supports(DType dtype) const = 0;
};

// Waits for the stream and copies a tensor to the host.
Tensor read_back(ExecContext& ctx, TensorView x);
template <typename T>
std::vector<T> read_back_as(ExecContext& ctx, TensorView x) {
  const Tensor host = read_back(ctx, x);
  const T* data = host.data<T>();
  return std::vector<T>(data, data + host.elements());
}

// Copies host elements into a tensor of the context's device.
void upload_bytes(ExecContext& ctx, const void* host, TensorView x);
template <typename T>
void upload(ExecContext& ctx, std::span<const T> host, TensorView x) {
  SWITCHYARD_CHECK(static_cast<int64_t>(host.size()) == x.elements() && x.data<T>() == x.raw(),
                   host.size(), " elements into ", x.shape());
  upload_bytes(ctx, host.data(), x);
}

}  // namespace switchyard
