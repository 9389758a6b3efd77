// MatMul and GroupedMatMul.
#include <algorithm>
#include <cstring>

#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/sgemm.h"

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

float* optional_floats(TensorView x) { return x.absent() ? nullptr : x.data<float>(); }

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
  row_products_.run({.x = x.data<float>(),
                     .weight = &w,
                     .transposed = true,
                     .offsets = offsets,
                     .y = y.data<float>(),
                     .activation = epilogue.activation,
                     .pre_activation = optional_floats(epilogue.saved_pre_activation)});
}

void CpuKernels::linear_input_gradient(ExecContext&, TensorView dy, const Weight& w, TensorView dx,
                                       Write write) {
  const int64_t offsets[2] = {0, dy.shape()[0]};
  row_products_.run({.x = dy.data<float>(),
                     .weight = &w,
                     .transposed = false,
                     .offsets = offsets,
                     .y = dx.data<float>(),
                     .write = write});
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
  row_products_.run({.x = x.data<float>(),
                     .x_index = index_of(rows, x_order),
                     .weight = &w,
                     .transposed = true,
                     .offsets = rows.offsets,
                     .y = y.data<float>(),
                     .y_index = index_of(rows, y_order),
                     .y_scale = optional_floats(rows.scale),
                     .activation = epilogue.activation,
                     .pre_activation = optional_floats(epilogue.saved_pre_activation)});
}

void CpuKernels::grouped_input_gradient(ExecContext&, TensorView dy, RowOrder dy_order,
                                        const Weight& w, const RaggedRows& rows, TensorView dx,
                                        RowOrder dx_order) {
  row_products_.run({.x = dy.data<float>(),
                     .x_index = index_of(rows, dy_order),
                     .weight = &w,
                     .transposed = false,
                     .offsets = rows.offsets,
                     .y = dx.data<float>(),
                     .y_index = index_of(rows, dx_order),
                     .y_scale = optional_floats(rows.scale)});
}

TensorView CpuKernels::gathered(ExecContext& ctx, TensorView x, RowOrder order,
                                const RaggedRows& rows) {
  if (order == RowOrder::kCompact || rows.rows() == 0) return x;
  const int64_t columns = x.shape()[1];
  const TensorView compact = ctx.scratch.allocate(DType::kFloat32, {rows.rows(), columns});
  const int32_t* index = rows.index.data<int32_t>();
  team_.ranges(rows.rows(), columns, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(compact.data<float>() + i * columns, x.data<float>() + index[i] * columns,
                  static_cast<size_t>(columns) * sizeof(float));
    }
  });
  return compact;
}

void CpuKernels::grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order,
                                         TensorView dy, RowOrder dy_order, const RaggedRows& rows,
                                         Weight& w) {
  SWITCHYARD_CHECK(ctx.reduction == Reduction::kFast, "ordered reductions on the cpu backend");
  const ScratchScope scope(ctx.scratch);
  const float* left = gathered(ctx, dy, dy_order, rows).data<float>();
  const float* right = gathered(ctx, x, x_order, rows).data<float>();
  const int64_t out = w.shape()[-2], in = w.shape()[-1];
  const GradientBlocks blocks(out, in);
  const float keep = w.next_gradient_write() == Write::kAccumulate ? 1.0f : 0.0f;
  float* gradient = w.gradient().data<float>();
  const int64_t cost =
      rows.rows() * blocks.rows * blocks.columns / (8 * std::max<int64_t>(rows.experts(), 1)) + 1;
  team_.units(rows.experts() * blocks.count, cost, [&](int64_t unit, int) {
    const int64_t expert = unit / blocks.count, block = unit % blocks.count;
    const int64_t first = rows.offsets[static_cast<size_t>(expert)];
    const int64_t depth = rows.offsets[static_cast<size_t>(expert) + 1] - first;
    const int64_t row = block / blocks.across * blocks.rows;
    const int64_t column = block % blocks.across * blocks.columns;
    cpu::sgemm(std::min(blocks.rows, out - row), std::min(blocks.columns, in - column), depth, 1.0f,
               {left + first * out + row, out, true}, {right + first * in + column, in}, keep,
               gradient + (expert * out + row) * in + column, in);
  });
}

}  // namespace switchyard
