// MatMul and GroupedMatMul.
#include <algorithm>
#include <type_traits>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/ordered_gradient.h"

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

// Rows of bfloat16 that are widened at a time for a block of a weight gradient.
constexpr int64_t kPartRows = 256;

// How a weight gradient [out, in] is cut into units of work: by its shape alone.
struct GradientBlocks {
  struct Size {
    int64_t rows, columns;
  };
  GradientBlocks(int64_t out, int64_t in, Size size)
      : rows(size.rows),
        columns(size.columns),
        across((in + columns - 1) / columns),
        count((out + rows - 1) / rows * across) {}
  GradientBlocks(int64_t out, int64_t in)
      : GradientBlocks(out, in,
                       {out >= 1024 ? 256 : 128, in >= 1024 ? 512 : (out >= 128 ? 256 : 64)}) {}

  int64_t rows, columns, across, count;
};

// A block whose partial and 64-bit sums stay in a core's second-level cache from one partial to the
// next.
constexpr GradientBlocks::Size kOrderedBlock{128, 256};

// body(begin, end) for every block of rows of every leaf of the expert.
template <typename Body>
void over_blocks(const RaggedRows& rows, int64_t expert, int64_t rows_per_block, const Body& body) {
  const LeafOffsets runs = rows.leaf_offsets;
  const int64_t first = rows.offsets[static_cast<size_t>(expert)];
  const int64_t last = rows.offsets[static_cast<size_t>(expert) + 1];
  const auto begin_of = std::lower_bound(runs.begin(), runs.end(), first);
  for (auto run = begin_of; run != runs.end() && *run < last; ++run) {
    for (int64_t row = *run; row < run[1]; row += rows_per_block) {
      body(row, std::min(row + rows_per_block, run[1]));
    }
  }
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
  if (cpu::sums_ordered(ctx, w)) {
    const int64_t whole_leaves = std::max<int64_t>(x.shape()[0], 1);
    ordered_weight_gradient(ctx, x, dy, rows, whole_leaves, w);
  } else {
    fast_weight_gradient(x, dy, rows, w);
  }
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
  const ScratchScope scope(ctx.scratch);
  const TensorView left = gathered(ctx, dy, dy_order, rows);
  const TensorView right = gathered(ctx, x, x_order, rows);
  if (cpu::sums_ordered(ctx, w)) {
    ordered_weight_gradient(ctx, right, left, rows, kOrderedBlockRows, w);
  } else {
    fast_weight_gradient(right, left, rows, w);
  }
}

namespace {

// Part of a weight gradient [out, in] of one expert, the work of one unit.
struct GradientBlock {
  GradientBlock(const GradientBlocks& blocks, int64_t out, int64_t in, int64_t unit)
      : expert(unit / blocks.count),
        row(unit % blocks.count / blocks.across * blocks.rows),
        column(unit % blocks.count % blocks.across * blocks.columns),
        height(std::min(blocks.rows, out - row)),
        width(std::min(blocks.columns, in - column)) {}

  int64_t expert, row, column, height, width;
};

// c (+)= dy^T x over the rows [begin, end), one block of it.
template <typename T>
void add_rows(const cpu::VectorLoops& loops, const GradientBlock& block, const T* dy, int64_t out,
              const T* x, int64_t in, int64_t begin, int64_t end, float* buffer, bool accumulate,
              float* c, int64_t c_stride) {
  const int64_t part = std::is_same_v<T, float> ? std::max<int64_t>(end - begin, 1) : kPartRows;
  float* right_buffer = buffer + cpu::widened<T>(kPartRows * block.height);
  float keep = accumulate ? 1.0f : 0.0f;
  do {  // also without rows, which makes the gradient zero
    const int64_t depth = std::min(part, end - begin);
    cpu::Matrix a =
        cpu::as_floats(loops, dy + begin * out + block.row, out, depth, block.height, buffer);
    const cpu::Matrix b =
        cpu::as_floats(loops, x + begin * in + block.column, in, depth, block.width, right_buffer);
    a.transposed = true;
    cpu::sgemm(block.height, block.width, depth, 1.0f, a, b, keep, c, c_stride);
    keep = 1.0f;
    begin += part;
  } while (begin < end);
}

int64_t cost_of_block(const GradientBlocks& blocks, const RaggedRows& rows) {
  return rows.rows() * blocks.rows * blocks.columns / (8 * std::max<int64_t>(rows.experts(), 1)) +
         1;
}

}  // namespace

void CpuKernels::fast_weight_gradient(TensorView x, TensorView dy, const RaggedRows& rows,
                                      Weight& w) {
  const int64_t out = w.shape()[-2], in = w.shape()[-1];
  const GradientBlocks blocks(out, in);
  const bool accumulate = w.next_gradient_write() == Write::kAccumulate;
  float* gradient = w.gradient().data<float>();
  cpu::with_activation(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto compute = [&](int64_t unit, int thread) {
      const GradientBlock block(blocks, out, in, unit);
      const auto expert = static_cast<size_t>(block.expert);
      float* buffer =
          team_.buffer(thread, cpu::widened<T>(kPartRows * (block.height + block.width)));
      add_rows(loops_, block, dy.data<T>(), out, x.data<T>(), in, rows.offsets[expert],
               rows.offsets[expert + 1], buffer, accumulate,
               gradient + (block.expert * out + block.row) * in + block.column, in);
    };
    team_.units(rows.experts() * blocks.count, cost_of_block(blocks, rows), compute);
  });
}

void CpuKernels::ordered_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy,
                                         const RaggedRows& rows, int64_t rows_per_block,
                                         Weight& w) {
  const int64_t out = w.shape()[-2], in = w.shape()[-1];
  const GradientBlocks blocks(out, in, kOrderedBlock);
  cpu::OrderedGradient sums(ctx, w, loops_, team_);
  cpu::with_activation(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto compute = [&](int64_t unit, int thread) {
      const GradientBlock block(blocks, out, in, unit);
      const int64_t block_floats = block.height * block.width;
      float* partial = team_.buffer(
          thread, block_floats + cpu::widened<T>(kPartRows * (block.height + block.width)));
      const auto add_partial = [&](int64_t begin, int64_t end) {
        add_rows(loops_, block, dy.data<T>(), out, x.data<T>(), in, begin, end,
                 partial + block_floats, false, partial, block.width);
        for (int64_t i = 0; i < block.height; ++i) {
          sums.add(((block.expert * out) + block.row + i) * in + block.column, block.width,
                   partial + i * block.width);
        }
      };
      over_blocks(rows, block.expert, rows_per_block, add_partial);
    };
    team_.units(rows.experts() * blocks.count, cost_of_block(blocks, rows), compute);
  });
}

}  // namespace switchyard
