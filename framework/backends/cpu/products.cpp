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
              static_cast<int>(Activation::kRelu2) == cpu::kLoopRelu2);

namespace {

const int32_t* index_of(const RaggedRows& rows, RowOrder order) {
  return order == RowOrder::kIndexed ? rows.index.data<int32_t>() : nullptr;
}

template <typename T>
T* optional_data(TensorView x) {
  return x.absent() ? nullptr : x.data<T>();
}

// Rows of bfloat16 that are widened at a time for a block of a weight gradient.
constexpr int64_t kPartRows = 256;

// How a weight gradient [out, in] is cut into units of work: by its shape alone.
struct GradientBlocks {
  GradientBlocks(int64_t out, int64_t in)
      : rows(out >= 1024 ? 256 : 128),
        columns(in >= 1024 ? 512 : (out >= 128 ? 256 : 64)),
        across((in + columns - 1) / columns),
        count((out + rows - 1) / rows * across) {}

  int64_t rows, columns, across, count;
};

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

void CpuKernels::linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy, LeafOffsets,
                                        Weight& w) {
  const int64_t offsets[2] = {0, x.shape()[0]};
  RaggedRows rows;
  rows.offsets = offsets;
  grouped_weight_gradient(ctx, x, RowOrder::kCompact, dy, RowOrder::kCompact, rows, w);
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

TensorView CpuKernels::gathered(ExecContext& ctx, TensorView x, RowOrder order,
                                const RaggedRows& rows) {
  if (order == RowOrder::kCompact || rows.rows() == 0) return x;
  const TensorView compact = ctx.scratch.allocate(x.dtype(), {rows.rows(), x.shape()[1]});
  gather_rows(ctx, x, rows.index, 1, compact);
  return compact;
}

void CpuKernels::grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order,
                                         TensorView dy, RowOrder dy_order, const RaggedRows& rows,
                                         Weight& w) {
  SWITCHYARD_CHECK(ctx.reduction == Reduction::kFast, "ordered reductions on the cpu backend");
  const ScratchScope scope(ctx.scratch);
  const TensorView left = gathered(ctx, dy, dy_order, rows);
  const TensorView right = gathered(ctx, x, x_order, rows);
  const int64_t out = w.shape()[-2], in = w.shape()[-1];
  const GradientBlocks blocks(out, in);
  const bool accumulate = w.next_gradient_write() == Write::kAccumulate;
  float* gradient = w.gradient().data<float>();
  const int64_t cost =
      rows.rows() * blocks.rows * blocks.columns / (8 * std::max<int64_t>(rows.experts(), 1)) + 1;
  cpu::with_activation(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    team_.units(rows.experts() * blocks.count, cost, [&](int64_t unit, int thread) {
      const int64_t expert = unit / blocks.count, block = unit % blocks.count;
      const int64_t first = rows.offsets[static_cast<size_t>(expert)];
      const int64_t end = rows.offsets[static_cast<size_t>(expert) + 1];
      const int64_t row = block / blocks.across * blocks.rows;
      const int64_t column = block % blocks.across * blocks.columns;
      const int64_t height = std::min(blocks.rows, out - row);
      const int64_t width = std::min(blocks.columns, in - column);
      const int64_t part = std::is_same_v<T, float> ? std::max<int64_t>(end - first, 1) : kPartRows;
      float* left_buffer = team_.buffer(thread, cpu::widened<T>(kPartRows * (height + width)));
      float* right_buffer = left_buffer + cpu::widened<T>(kPartRows * height);
      float keep = accumulate ? 1.0f : 0.0f;
      int64_t begin = first;
      do {  // also without rows, which makes the gradient zero
        const int64_t depth = std::min(part, end - begin);
        cpu::Matrix a = cpu::as_floats(loops_, left.data<T>() + begin * out + row, out, depth,
                                       height, left_buffer);
        const cpu::Matrix b = cpu::as_floats(loops_, right.data<T>() + begin * in + column, in,
                                             depth, width, right_buffer);
        a.transposed = true;
        cpu::sgemm(height, width, depth, 1.0f, a, b, keep,
                   gradient + (expert * out + row) * in + column, in);
        keep = 1.0f;
        begin += part;
      } while (begin < end);
    });
  });
}

}  // namespace switchyard
