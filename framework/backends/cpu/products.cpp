// MatMul and GroupedMatMul.
#include <algorithm>
#include <type_traits>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

using cpu::LoopActivation;

static_assert(static_cast<int>(Activation::kNone) == cpu::kLoopNone &&
              static_cast<int>(Activation::kRelu) == cpu::kLoopRelu &&
              static_cast<int>(Activation::kGelu) == cpu::kLoopGelu &&
              static_cast<int>(Activation::kSilu) == cpu::kLoopSilu &&
              static_cast<int>(Activation::kRelu2) == cpu::kLoopRelu2 &&
              static_cast<int>(Activation::kGeluTanh) == cpu::kLoopGeluTanh);

namespace {

const int32_t* index_of(const RaggedRows& rows, RowOrder order) {
  return order == RowOrder::kIndexed ? rows.index.data<int32_t>() : nullptr;
}

template <typename T>
T* optional_data(TensorView x) {
  return x.absent() ? nullptr : x.data<T>();
}

}  // namespace

void CpuKernels::linear(ExecContext&, TensorView x, const Weight& w, TensorView y,
                        const Epilogue& epilogue) {
  const int64_t offsets[2] = {0, x.shape()[0]};
  cpu::with_activation(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    row_products_.run<T>({.x = x.data<T>(),
                          .weight = &w,
                          .transposed = true,
                          .offsets = offsets,
                          .y = y.data<T>(),
                          .activation = epilogue.activation,
                          .pre_activation = optional_data<T>(epilogue.saved_pre_activation)});
  });
}

void CpuKernels::linear_input_gradient(ExecContext&, TensorView dy, const Weight& w, TensorView dx,
                                       Write write) {
  const int64_t offsets[2] = {0, dy.shape()[0]};
  cpu::with_activation(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    row_products_.run<T>({.x = dy.data<T>(),
                          .weight = &w,
                          .transposed = false,
                          .offsets = offsets,
                          .y = dx.data<T>(),
                          .write = write});
  });
}

void CpuKernels::linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy,
                                        LeafOffsets leaves, Weight& w) {
  const int64_t offsets[2] = {0, x.shape()[0]};
  RaggedRows rows;
  rows.offsets = offsets;
  rows.leaf_offsets = leaves;
  const int64_t whole_leaves = std::max<int64_t>(x.shape()[0], 1);
  weight_gradient(ctx, x, RowOrder::kCompact, dy, RowOrder::kCompact, rows, whole_leaves, w);
}

void CpuKernels::grouped_linear(ExecContext&, TensorView x, RowOrder x_order, const Weight& w,
                                const RaggedRows& rows, TensorView y, RowOrder y_order,
                                const Epilogue& epilogue) {
  cpu::with_activation(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    row_products_.run<T>({.x = x.data<T>(),
                          .x_index = index_of(rows, x_order),
                          .weight = &w,
                          .transposed = true,
                          .offsets = rows.offsets,
                          .y = y.data<T>(),
                          .y_index = index_of(rows, y_order),
                          .y_scale = optional_data<float>(rows.scale),
                          .activation = epilogue.activation,
                          .pre_activation = optional_data<T>(epilogue.saved_pre_activation)});
  });
}

void CpuKernels::grouped_input_gradient(ExecContext&, TensorView dy, RowOrder dy_order,
                                        const Weight& w, const RaggedRows& rows, TensorView dx,
                                        RowOrder dx_order) {
  cpu::with_activation(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    row_products_.run<T>({.x = dy.data<T>(),
                          .x_index = index_of(rows, dy_order),
                          .weight = &w,
                          .transposed = false,
                          .offsets = rows.offsets,
                          .y = dx.data<T>(),
                          .y_index = index_of(rows, dx_order),
                          .y_scale = optional_data<float>(rows.scale)});
  });
}

void CpuKernels::grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order,
                                         TensorView dy, RowOrder dy_order, const RaggedRows& rows,
                                         Weight& w) {
  weight_gradient(ctx, x, x_order, dy, dy_order, rows, kOrderedBlockRows, w);
}

void CpuKernels::weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order, TensorView dy,
                                 RowOrder dy_order, const RaggedRows& rows, int64_t rows_per_block,
                                 Weight& w) {
  cpu::with_activation(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const cpu::GradientProduct<T> product{.x = x.data<T>(),
                                          .x_index = index_of(rows, x_order),
                                          .in = w.shape()[-1],
                                          .dy = dy.data<T>(),
                                          .dy_index = index_of(rows, dy_order),
                                          .out = w.shape()[-2],
                                          .rows = rows};
    if (cpu::sums_ordered(ctx, w)) {
      cpu::OrderedGradient sums(ctx, w, loops_, team_);
      gradient_products_.sum_ordered(product, rows_per_block, sums);
    } else {
      const Write write = w.next_gradient_write();
      gradient_products_.sum(product, w.gradient().data<float>(), write);
    }
  });
}

}  // namespace switchyard
