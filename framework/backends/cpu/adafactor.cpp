#include <algorithm>
#include <cmath>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

namespace {

// The tensors of a call cut into units of a fixed size, so that no sum depends on the threads:
// of matrices blocks of rows, else parts of the elements, which then are one row each.
struct Units {
  Units(TensorView gradient, const AdafactorMoments& moments)
      : factored(!moments.columns.absent()),
        tensors(gradient.shape()[0]),
        out(gradient.shape()[1]),
        in(factored ? gradient.shape()[2] : 1),
        step(factored ? 64 : 8192),
        of_tensor((out + step - 1) / step) {}

  int64_t count() const { return tensors * of_tensor; }
  int64_t cost() const { return std::min(step, out) * in; }  // elements of a unit
  int64_t tensor(int64_t unit) const { return unit / of_tensor; }
  // Rows of the unit, counted over all tensors.
  int64_t begin(int64_t unit) const { return tensor(unit) * out + unit % of_tensor * step; }
  int64_t end(int64_t unit) const { return std::min(begin(unit) + step, (tensor(unit) + 1) * out); }

  bool factored;
  int64_t tensors, out, in;  // not factored, `out` counts the elements
  int64_t step, of_tensor;   // rows of a unit, units of a tensor
};

// Asks the memory for a row that comes next, while the one before is computed with: it has several
// passes of its own, between which the memory would idle.
void prefetch(const float* row, int64_t n) {
  constexpr int64_t kLineFloats = 16;
  for (int64_t i = 0; i < n; i += kLineFloats) __builtin_prefetch(row + i);
}

// What turns a gradient into a direction, not yet scaled by gradient_scale: for each row of the
// matrices 1 / sqrt(rows / mean(rows)), for each column 1 / sqrt(columns).
struct InverseRoots {
  double* of_row;
  float* of_column;
};

InverseRoots inverse_roots(Arena& scratch, const Units& units, const AdafactorMoments& moments) {
  const TensorView row_view = scratch.allocate(DType::kFloat64, {units.tensors, units.out});
  const TensorView column_view = scratch.allocate(DType::kFloat32, {units.tensors, units.in});
  const InverseRoots roots{row_view.data<double>(), column_view.data<float>()};
  const float *rows = moments.rows.data<float>(), *columns = moments.columns.data<float>();
  for (int64_t n = 0; n < units.tensors; ++n) {
    double sum = 0;
    for (int64_t r = n * units.out; r < (n + 1) * units.out; ++r) {
      sum += static_cast<double>(rows[r]);
    }
    const double mean = sum / static_cast<double>(units.out);
    for (int64_t r = n * units.out; r < (n + 1) * units.out; ++r) {
      roots.of_row[r] = 1 / std::sqrt(static_cast<double>(rows[r]) / mean);
    }
  }
  for (int64_t c = 0; c < units.tensors * units.in; ++c) {
    roots.of_column[c] = 1.0f / std::sqrt(columns[c]);
  }
  return roots;
}

}  // namespace

// Means of squares over rows and columns. Column sums are float32 within a unit, float64 beyond.
static void factored_moments(cpu::Team& team, const cpu::VectorLoops& loops, Arena& scratch,
                             const AdafactorStep& step, const Units& units, const float* g,
                             const AdafactorMoments& moments) {
  const ScratchScope scope(scratch);
  float* column_sums = scratch.allocate(DType::kFloat32, {units.count(), units.in}).data<float>();
  float *rows = moments.rows.data<float>(), *columns = moments.columns.data<float>();
  const double scale = step.gradient_scale * step.gradient_scale;
  const auto decayed = [&](float old, double sum, int64_t count) {
    const double mean = scale * sum / static_cast<double>(count) + step.epsilon;
    return static_cast<float>(step.decay * static_cast<double>(old) + (1 - step.decay) * mean);
  };
  team.units(units.count(), 2 * units.cost(), [&](int64_t unit, int) {
    float* sums = column_sums + unit * units.in;
    std::fill_n(sums, units.in, 0.0f);
    for (int64_t r = units.begin(unit); r < units.end(unit); ++r) {
      const float* row = g + r * units.in;
      prefetch(row + units.in, units.in);
      rows[r] = decayed(rows[r], loops.sum_of_squares_f64(units.in, row), units.in);
      loops.add_squares(units.in, row, sums);
    }
  });
  constexpr int64_t kColumns = 256;
  const int64_t slices = (units.in + kColumns - 1) / kColumns;
  team.units(units.tensors * slices, units.of_tensor * kColumns, [&](int64_t slice, int) {
    const int64_t n = slice / slices, begin = slice % slices * kColumns;
    const int64_t count = std::min(kColumns, units.in - begin);
    double sums[kColumns] = {};
    for (int64_t unit = n * units.of_tensor; unit < (n + 1) * units.of_tensor; ++unit) {
      const float* part = column_sums + unit * units.in + begin;
      for (int64_t c = 0; c < count; ++c) sums[c] += static_cast<double>(part[c]);
    }
    float* mine = columns + n * units.in + begin;
    for (int64_t c = 0; c < count; ++c) mine[c] = decayed(mine[c], sums[c], units.out);
  });
}

void CpuKernels::adafactor_moments(ExecContext& ctx, const AdafactorStep& step, TensorView weight,
                                   TensorView gradient, const AdafactorMoments& moments,
                                   TensorView sums_view) {
  const Units units(gradient, moments);
  const ScratchScope scope(ctx.scratch);
  const float *g = gradient.data<float>(), *w = weight.data<float>();
  const float scale = static_cast<float>(step.gradient_scale);
  double* unit_sums = ctx.scratch.allocate(DType::kFloat64, {units.count(), 2}).data<double>();
  InverseRoots roots{};
  if (units.factored) {
    factored_moments(team_, loops_, ctx.scratch, step, units, g, moments);
    roots = inverse_roots(ctx.scratch, units, moments);
  }
  team_.units(units.count(), 2 * units.cost(), [&](int64_t unit, int thread) {
    const int64_t begin = units.begin(unit), count = units.end(unit) - begin;
    float* u = team_.buffer(thread, units.factored ? units.in : count);
    double direction_squares = 0;
    if (!units.factored) {
      float* v = moments.rows.data<float>() + begin;
      loops_.decay_squares(count, g + begin, scale, static_cast<float>(step.epsilon),
                           static_cast<float>(step.decay), static_cast<float>(1 - step.decay), v);
      loops_.divide_by_root(count, g + begin, v, scale, u);
      direction_squares = loops_.sum_of_squares_f64(count, u);
    }
    for (int64_t r = begin; units.factored && r < begin + count; ++r) {
      const float* column_roots = roots.of_column + units.tensor(unit) * units.in;
      prefetch(g + (r + 1) * units.in, units.in);
      loops_.multiply(units.in, g + r * units.in, column_roots, u);
      const double factor = step.gradient_scale * roots.of_row[r];
      direction_squares += factor * factor * loops_.sum_of_squares_f64(units.in, u);
    }
    unit_sums[2 * unit] = direction_squares;
    unit_sums[2 * unit + 1] = loops_.sum_of_squares_f64(count * units.in, w + begin * units.in);
  });
  double* sums = sums_view.data<double>();
  std::fill_n(sums, 2 * units.tensors, 0.0);
  for (int64_t unit = 0; unit < units.count(); ++unit) {
    sums[2 * units.tensor(unit)] += unit_sums[2 * unit];
    sums[2 * units.tensor(unit) + 1] += unit_sums[2 * unit + 1];
  }
}

void CpuKernels::adafactor_update(ExecContext& ctx, double gradient_scale, double decay,
                                  TensorView step_sizes, TensorView weight, TensorView gradient,
                                  const AdafactorMoments& moments) {
  const Units units(gradient, moments);
  const ScratchScope scope(ctx.scratch);
  const double* sizes = step_sizes.data<double>();
  const float* g = gradient.data<float>();
  float* w = weight.data<float>();
  const float share = static_cast<float>(decay);
  InverseRoots roots{};
  if (units.factored) roots = inverse_roots(ctx.scratch, units, moments);
  team_.units(units.count(), 2 * units.cost(), [&](int64_t unit, int thread) {
    const int64_t begin = units.begin(unit), count = units.end(unit) - begin;
    const int64_t n = units.tensor(unit);
    float* u = team_.buffer(thread, units.factored ? units.in : count);
    if (!units.factored) {
      const float* v = moments.rows.data<float>() + begin;
      loops_.divide_by_root(count, g + begin, v, static_cast<float>(gradient_scale), u);
      loops_.decayed_step(count, static_cast<float>(sizes[n]), u, share, w + begin);
    }
    for (int64_t r = begin; units.factored && r < begin + count; ++r) {
      prefetch(g + (r + 1) * units.in, units.in);
      prefetch(w + (r + 1) * units.in, units.in);
      loops_.multiply(units.in, g + r * units.in, roots.of_column + n * units.in, u);
      const double factor = sizes[n] * gradient_scale * roots.of_row[r];
      loops_.decayed_step(units.in, static_cast<float>(factor), u, share, w + r * units.in);
    }
  });
}

}  // namespace switchyard
