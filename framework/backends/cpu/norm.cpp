#include <algorithm>
#include <cmath>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/ordered_gradient.h"
#include "base/reused_memory.h"

namespace switchyard {

namespace {

// Rows whose part of the weight's gradient is summed before it joins the others' of the leaf:
// fixed, so that the sum does not depend on the number of threads.
constexpr int64_t kRowsPerPart = 64;

struct Part {
  int64_t begin, end;
  bool ends_leaf;
};

ReusedVector<Part> parts_of(LeafOffsets leaves) {
  ReusedVector<Part> parts;
  for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
    for (int64_t begin = leaves[leaf]; begin < leaves[leaf + 1]; begin += kRowsPerPart) {
      const int64_t end = std::min(begin + kRowsPerPart, leaves[leaf + 1]);
      parts.push_back({begin, end, end == leaves[leaf + 1]});
    }
  }
  return parts;
}

}  // namespace

void CpuKernels::rms_norm(ExecContext&, TensorView x_view, const Weight& weight, double epsilon,
                          NormRounding rounding, TensorView y_view, TensorView inverse_rms) {
  const int64_t columns = x_view.shape()[1];
  const float* w = weight.master().data<float>();
  float* inverse = inverse_rms.data<float>();
  cpu::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = x_view.data<T>();
    T* y = y_view.data<T>();
    team_.ranges(x_view.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
      cpu::RowBuffer<T> buffer(columns);
      for (int64_t t = begin; t < end; ++t) {
        const float* row = cpu::load(loops_, columns, x + t * columns, buffer.data());
        const float mean = loops_.sum_of_squares(columns, row) / static_cast<float>(columns);
        inverse[t] = 1.0f / std::sqrt(mean + static_cast<float>(epsilon));
        float* normed = cpu::target(y + t * columns, buffer.data());
        if (rounding == NormRounding::kBeforeWeight && !std::is_same_v<T, float>) {
          loops_.scale(columns, row, inverse[t], normed);
          cpu::store(loops_, columns, normed, y + t * columns);
          const float* rounded = cpu::load(loops_, columns, y + t * columns, normed);
          loops_.multiply(columns, rounded, w, normed);
        } else {
          loops_.scale_by_row(columns, row, inverse[t], w, normed);
        }
        cpu::store(loops_, columns, normed, y + t * columns);
      }
    });
  });
}

// With r = inverse_rms: y_d = x_d r w_d and dr/dx_d = -r^3 x_d / D.
void CpuKernels::rms_norm_backward(ExecContext& ctx, TensorView x_view, TensorView inverse_rms,
                                   TensorView dy_view, LeafOffsets leaves, TensorView dx_view,
                                   Write write, Weight& weight) {
  const int64_t columns = x_view.shape()[1];
  const ReusedVector<Part> parts = parts_of(leaves);
  const auto count = static_cast<int64_t>(parts.size());
  const ScratchScope scope(ctx.scratch);
  float* part_sums = ctx.scratch.allocate(DType::kFloat32, {count, columns}).data<float>();
  const float *w = weight.master().data<float>(), *inverse = inverse_rms.data<float>();
  const bool accumulate = write == Write::kAccumulate;
  cpu::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    team_.units(count, 4 * kRowsPerPart * columns, [&](int64_t part, int thread) {
      float* dw = part_sums + part * columns;
      std::fill_n(dw, columns, 0.0f);
      float* buffer = team_.buffer(thread, 3 * columns);
      const auto [begin, end, ends_leaf] = parts[static_cast<size_t>(part)];
      for (int64_t t = begin; t < end; ++t) {
        const float* x = cpu::load(loops_, columns, x_view.data<T>() + t * columns, buffer);
        const float* dy =
            cpu::load(loops_, columns, dy_view.data<T>() + t * columns, buffer + columns);
        T* dx_row = dx_view.data<T>() + t * columns;
        float* dx = cpu::target(dx_row, buffer + 2 * columns);
        if (accumulate) cpu::load(loops_, columns, dx_row, dx);
        const float r = inverse[t];
        const float through_mean =
            loops_.dot3(columns, dy, w, x) * r * r * r / static_cast<float>(columns);
        loops_.rms_norm_backward(columns, x, w, dy, r, through_mean, accumulate, dx, dw);
        cpu::store(loops_, columns, dx, dx_row);
      }
    });
  });
  if (cpu::sums_ordered(ctx, weight)) {
    cpu::OrderedGradient sums(ctx, weight, loops_, team_);
    for (int64_t part = 0, first = 0; part < count; ++part) {
      float *leaf = part_sums + first * columns, *sum = part_sums + part * columns;
      if (part > first) loops_.add(columns, leaf, sum, leaf);
      if (!parts[static_cast<size_t>(part)].ends_leaf) continue;
      sums.add(0, columns, leaf);
      first = part + 1;
    }
    return;
  }
  const bool overwrite = weight.next_gradient_write() == Write::kOverwrite;
  float* gradient = weight.gradient().data<float>();
  if (overwrite) std::fill_n(gradient, columns, 0.0f);
  team_.ranges(columns, count, [&](int64_t begin, int64_t end) {
    for (int64_t part = 0; part < count; ++part) {
      loops_.add(end - begin, gradient + begin, part_sums + part * columns + begin,
                 gradient + begin);
    }
  });
}

}  // namespace switchyard
