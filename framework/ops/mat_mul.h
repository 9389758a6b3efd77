// Products of token rows with a weight. Weights are stored [out, in], as PyTorch's Linear.
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

enum class Activation : uint8_t { kNone, kRelu, kGelu, kSilu, kRelu2, kGeluTanh };

// What is fused onto the end of a product.
struct Epilogue {
  Activation activation = Activation::kNone;
  TensorView
      saved_pre_activation;  // absent, or shaped as the product's output: filled for backward
};

class MatMul {
 public:
  virtual ~MatMul() = default;

  // y = activation(x W^T). A row's result doesn't depend on the other rows of the call; on CUDA
  // that holds where sums are ordered.
  //   x [T, K], w [N, K], y [T, N]; x and y of one floating dtype; T may be 0
  virtual void linear(ExecContext& ctx, TensorView x, const Weight& w, TensorView y,
                      const Epilogue& epilogue) = 0;

  // dx = dy W, or added to dx.
  //   dy [T, N], w [N, K], dx [T, K]
  virtual void linear_input_gradient(ExecContext& ctx, TensorView dy, const Weight& w,
                                     TensorView dx, Write write) = 0;

  // Writes dy^T x into w's gradient as w.next_gradient_write() says. T may be 0 (writes zeros
  // first).
  //   x [T, K], dy [T, N]
  virtual void linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy,
                                      LeafOffsets leaves, Weight& w) = 0;
};

// The same with shapes and dtypes checked: what layers call.
void linear(ExecContext& ctx, TensorView x, const Weight& w, TensorView y,
            const Epilogue& epilogue = {});
void linear_input_gradient(ExecContext& ctx, TensorView dy, const Weight& w, TensorView dx,
                           Write write);
void linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy, LeafOffsets leaves,
                            Weight& w);

}  // namespace switchyard
