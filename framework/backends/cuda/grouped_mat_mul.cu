// GroupedMatMul.
#include <vector>

#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/finish_rows.h"
#include "backends/cuda/ordered_gradient.h"
#include "backends/cuda/own_products.h"
#include "backends/cuda/product_library.h"
#include "backends/cuda/weight_forms.h"

namespace switchyard {
namespace {

using cuda::MatrixProduct;

TensorView index_of(const RaggedRows& rows, RowOrder order) {
  return order == RowOrder::kIndexed ? rows.index : TensorView();
}
TensorView scale_of(const RaggedRows& rows, RowOrder order) {
  return order == RowOrder::kIndexed ? rows.scale : TensorView();
}

// Rows of the compact order, gathered where they stand elsewhere.
TensorView compact_rows(ExecContext& ctx, TensorView x, RowOrder order, const RaggedRows& rows) {
  if (order == RowOrder::kCompact) return x;
  const TensorView compact = ctx.scratch.allocate(x.dtype(), {rows.rows(), x.shape()[1]});
  gather_rows(ctx, x, rows.index, /*choices=*/1, compact);
  return compact;
}

std::byte* row_address(TensorView x, int64_t row) {
  return static_cast<std::byte*>(x.raw()) + row * x.shape()[-1] * size_of(x.dtype());
}
std::byte* expert_address(TensorView stacked, int64_t e) {
  const Shape& shape = stacked.shape();
  return static_cast<std::byte*>(stacked.raw()) +
         e * shape[1] * shape[2] * size_of(stacked.dtype());
}

// cuBLAS reads matrices of a group by 16 bytes.
bool groups_fit(TensorView x, TensorView weight, TensorView y) {
  const auto fits = [](TensorView view) {
    const size_t row_bytes = static_cast<size_t>(view.shape()[-1]) * size_of(view.dtype());
    return row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(view.raw()) % 16 == 0;
  };
  return fits(x) && fits(weight) && fits(y);
}

// products [N, columns] = x W_e' of every expert's rows, both in the compact order.
void multiply_experts(ExecContext& ctx, cuda::ProductLibrary& library, TensorView x,
                      TensorView weight, bool transposed, const RaggedRows& rows,
                      TensorView products) {
  std::vector<MatrixProduct> groups;
  for (int64_t e = 0; e < rows.experts(); ++e) {
    const int64_t begin = rows.offsets[e];
    groups.push_back({.m = rows.offsets[e + 1] - begin,
                      .n = products.shape()[1],
                      .k = x.shape()[1],
                      .a = row_address(x, begin),
                      .b = expert_address(weight, e),
                      .c = row_address(products, begin),
                      .b_transposed = transposed,
                      .inputs = x.dtype(),
                      .output = products.dtype()});
  }
  library.multiply_groups(ctx, groups);
}

}  // namespace

void CudaKernels::grouped_linear(ExecContext& ctx, TensorView x, RowOrder x_order, const Weight& w,
                                 const RaggedRows& rows, TensorView y, RowOrder y_order,
                                 const Epilogue& epilogue) {
  const TensorView weight = cuda::compute_form(ctx, w, x.dtype());
  if (ctx.ordered || !groups_fit(x, weight, y)) {
    return cuda::multiply_rows(ctx, {.x = x,
                                     .x_index = index_of(rows, x_order),
                                     .weight = weight,
                                     .transposed = true,
                                     .offsets = rows.offsets,
                                     .y = y,
                                     .y_index = index_of(rows, y_order),
                                     .y_scale = scale_of(rows, y_order),
                                     .activation = epilogue.activation,
                                     .pre_activation = epilogue.saved_pre_activation});
  }
  const ScratchScope scratch(ctx.scratch);
  TensorView products = epilogue.saved_pre_activation;
  if (products.absent()) {
    products = y_order == RowOrder::kCompact
                   ? y
                   : ctx.scratch.allocate(y.dtype(), {rows.rows(), y.shape()[1]});
  }
  products = products.rows(0, rows.rows());
  multiply_experts(ctx, *products_, compact_rows(ctx, x, x_order, rows), weight, true, rows,
                   products);
  if (products.raw() == y.raw() && epilogue.activation == Activation::kNone) return;
  cuda::finish_rows(ctx, products, epilogue.activation, index_of(rows, y_order),
                    scale_of(rows, y_order), y);
}

void CudaKernels::grouped_input_gradient(ExecContext& ctx, TensorView dy, RowOrder dy_order,
                                         const Weight& w, const RaggedRows& rows, TensorView dx,
                                         RowOrder dx_order) {
  const TensorView weight = cuda::compute_form(ctx, w, dy.dtype());
  if (ctx.ordered || !groups_fit(dy, weight, dx)) {
    return cuda::multiply_rows(ctx, {.x = dy,
                                     .x_index = index_of(rows, dy_order),
                                     .weight = weight,
                                     .offsets = rows.offsets,
                                     .y = dx,
                                     .y_index = index_of(rows, dx_order),
                                     .y_scale = scale_of(rows, dx_order)});
  }
  const ScratchScope scratch(ctx.scratch);
  const TensorView products = dx_order == RowOrder::kCompact
                                  ? dx.rows(0, rows.rows())
                                  : ctx.scratch.allocate(dx.dtype(), {rows.rows(), dx.shape()[1]});
  multiply_experts(ctx, *products_, compact_rows(ctx, dy, dy_order, rows), weight, false, rows,
                   products);
  if (dx_order == RowOrder::kCompact) return;
  cuda::finish_rows(ctx, products, Activation::kNone, rows.index, rows.scale, dx);
}

// cuBLAS groups have results of the inputs' type, and gradients are float32: one call for each
// expert.
void CudaKernels::grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order,
                                          TensorView dy, RowOrder dy_order, const RaggedRows& rows,
                                          Weight& w) {
  if (cuda::sums_ordered(ctx, w)) {
    return cuda::add_ordered_products(ctx,
                                      {.x = x,
                                       .x_index = index_of(rows, x_order),
                                       .dy = dy,
                                       .dy_index = index_of(rows, dy_order),
                                       .offsets = rows.offsets,
                                       .runs = rows.leaf_offsets},
                                      w);
  }
  const ScratchScope scratch(ctx.scratch);
  const Write write = w.next_gradient_write();
  const TensorView compact_x = compact_rows(ctx, x, x_order, rows);
  const TensorView compact_dy = compact_rows(ctx, dy, dy_order, rows);
  for (int64_t e = 0; e < rows.experts(); ++e) {
    const int64_t begin = rows.offsets[e], count = rows.offsets[e + 1] - begin;
    if (count == 0) {
      if (write == Write::kOverwrite) fill_zero(ctx, w.gradient().rows(e, e + 1));
      continue;
    }
    products_->multiply(ctx, {.m = dy.shape()[1],
                              .n = x.shape()[1],
                              .k = count,
                              .a = row_address(compact_dy, begin),
                              .b = row_address(compact_x, begin),
                              .c = expert_address(w.gradient(), e),
                              .a_transposed = true,
                              .inputs = x.dtype(),
                              .output = DType::kFloat32,
                              .write = write});
  }
}

}  // namespace switchyard
