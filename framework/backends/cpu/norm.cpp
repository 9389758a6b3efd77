#include <algorithm>
#include <cmath>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

namespace {

// Rows whose part of the weight's gradient is summed before it joins the others': fixed, so that
// the sum does not depend on the number of threads.
constexpr int64_t kRowsPerPart = 64;

}  // namespace

void CpuKernels::rms_norm(ExecContext&, TensorView x_view, const Weight& weight, double epsilon,
                          TensorView y_view, TensorView inverse_rms) {
  const int64_t columns = x_view.shape()[1];
  const float *x = x_view.data<float>(), *w = weight.master().data<float>();
  float *y = y_view.data<float>(), *inverse = inverse_rms.data<float>();
  team_.ranges(x_view.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float mean =
          loops_.sum_of_squares(columns, x + t * columns) / static_cast<float>(columns);
      inverse[t] = 1.0f / std::sqrt(mean + static_cast<float>(epsilon));
      loops_.scale_by_row(columns, x + t * columns, inverse[t], w, y + t * columns);
    }
  });
}

// With r = inverse_rms: y_d = x_d r w_d and dr/dx_d = -r^3 x_d / D.
void CpuKernels::rms_norm_backward(ExecContext& ctx, TensorView x_view, TensorView inverse_rms,
                                   TensorView dy_view, LeafOffsets, TensorView dx_view, Write write,
                                   Weight& weight) {
  SWITCHYARD_CHECK(ctx.reduction == Reduction::kFast, "ordered reductions on the cpu backend");
  const int64_t rows = x_view.shape()[0], columns = x_view.shape()[1];
  const int64_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  const ScratchScope scope(ctx.scratch);
  float* part_sums = ctx.scratch.allocate(DType::kFloat32, {parts, columns}).data<float>();
  const float *x = x_view.data<float>(), *dy = dy_view.data<float>();
  const float *w = weight.master().data<float>(), *inverse = inverse_rms.data<float>();
  float* dx = dx_view.data<float>();
  team_.units(parts, 4 * kRowsPerPart * columns, [&](int64_t part, int) {
    float* dw = part_sums + part * columns;
    std::fill_n(dw, columns, 0.0f);
    const int64_t end = std::min(rows, (part + 1) * kRowsPerPart);
    for (int64_t t = part * kRowsPerPart; t < end; ++t) {
      const int64_t row = t * columns;
      const float r = inverse[t];
      const float through_mean =
          loops_.dot3(columns, dy + row, w, x + row) * r * r * r / static_cast<float>(columns);
      loops_.rms_norm_backward(columns, x + row, w, dy + row, r, through_mean,
                               write == Write::kAccumulate, dx + row, dw);
    }
  });
  const bool overwrite = weight.next_gradient_write() == Write::kOverwrite;
  float* gradient = weight.gradient().data<float>();
  if (overwrite) std::fill_n(gradient, columns, 0.0f);
  team_.ranges(columns, parts, [&](int64_t begin, int64_t end) {
    for (int64_t part = 0; part < parts; ++part) {
      loops_.add(end - begin, gradient + begin, part_sums + part * columns + begin,
                 gradient + begin);
    }
  });
}

}  // namespace switchyard
