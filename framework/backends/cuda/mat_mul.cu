// MatMul.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/finish_rows.h"
#include "backends/cuda/ordered_gradient.h"
#include "backends/cuda/own_products.h"
#include "backends/cuda/product_library.h"
#include "backends/cuda/weight_forms.h"

namespace switchyard {

using cuda::MatrixProduct;

// cuBLASLt's GELU is the approximation, which its documentation doesn't promise, and it keeps no
// values from before a ReLU: where they are saved, or for other functions, a kernel follows.
void CudaKernels::linear(ExecContext& ctx, TensorView x, const Weight& w, TensorView y,
                         const Epilogue& epilogue) {
  const int64_t offsets[2] = {0, x.shape()[0]};
  const TensorView weight = cuda::compute_form(ctx, w, x.dtype());
  const cuda::RowProduct own{.x = x,
                             .weight = weight,
                             .transposed = true,
                             .offsets = offsets,
                             .y = y,
                             .activation = epilogue.activation,
                             .pre_activation = epilogue.saved_pre_activation};
  if (ctx.ordered) return cuda::multiply_rows(ctx, own);
  const bool saves = !epilogue.saved_pre_activation.absent();
  const bool relu = epilogue.activation == Activation::kRelu && !saves;
  const TensorView products = saves ? epilogue.saved_pre_activation : y;
  const bool done = products_->multiply_fused(ctx, {.m = x.shape()[0],
                                                    .n = y.shape()[1],
                                                    .k = x.shape()[1],
                                                    .a = x.raw(),
                                                    .b = weight.raw(),
                                                    .c = products.raw(),
                                                    .b_transposed = true,
                                                    .inputs = x.dtype(),
                                                    .output = y.dtype(),
                                                    .relu = relu});
  if (!done) return cuda::multiply_rows(ctx, own);
  const bool finished = relu || (epilogue.activation == Activation::kNone && !saves);
  if (!finished) cuda::finish_rows(ctx, products, epilogue.activation, {}, {}, y);
}

void CudaKernels::linear_input_gradient(ExecContext& ctx, TensorView dy, const Weight& w,
                                        TensorView dx, Write write) {
  const int64_t offsets[2] = {0, dy.shape()[0]};
  const TensorView weight = cuda::compute_form(ctx, w, dy.dtype());
  const bool done = !ctx.ordered && products_->multiply_fused(ctx, {.m = dy.shape()[0],
                                                                    .n = dx.shape()[1],
                                                                    .k = dy.shape()[1],
                                                                    .a = dy.raw(),
                                                                    .b = weight.raw(),
                                                                    .c = dx.raw(),
                                                                    .inputs = dy.dtype(),
                                                                    .output = dx.dtype(),
                                                                    .write = write});
  if (done) return;
  cuda::multiply_rows(ctx,
                      {.x = dy, .weight = weight, .offsets = offsets, .y = dx, .write = write});
}

void CudaKernels::linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy,
                                         LeafOffsets leaves, Weight& w) {
  const int64_t rows = x.shape()[0];
  if (cuda::sums_ordered(ctx, w)) {
    const int64_t offsets[2] = {0, rows};
    return cuda::add_ordered_products(ctx,
                                      {.x = x,
                                       .dy = dy,
                                       .offsets = offsets,
                                       .runs = leaves,
                                       .rows_per_partial = std::max<int64_t>(rows, 1)},
                                      w);
  }
  const Write write = w.next_gradient_write();
  if (rows == 0) {
    if (write == Write::kOverwrite) fill_zero(ctx, w.gradient());
    return;
  }
  products_->multiply(ctx, {.m = dy.shape()[1],
                            .n = x.shape()[1],
                            .k = rows,
                            .a = dy.raw(),
                            .b = x.raw(),
                            .c = w.gradient().raw(),
                            .a_transposed = true,
                            .inputs = x.dtype(),
                            .output = DType::kFloat32,
                            .write = write});
}

}  // namespace switchyard
