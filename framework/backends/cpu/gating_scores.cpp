// GatingOps, first half: scores, noise and losses, with their gradients.
#include <cmath>
#include <numeric>

#include "backends/cpu/choosing.h"
#include "backends/cpu/cpu_kernels.h"
#include "base/reused_memory.h"

namespace switchyard {
namespace {

void put(float& place, float value, Write write) {
  place = write == Write::kOverwrite ? value : place + value;
}

float sigmoid_of(float x) { return 1.0f / (1.0f + std::exp(-x)); }

float softplus_of(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x))); }

// Calls body(t, e, standard normal number) for every element of [rows, columns].
template <typename Body>
void for_each_normal(cpu::Team& team, const RandomRows& random, const Shape& shape,
                     const Body& body) {
  const int64_t columns = shape[1];
  const int64_t* token = random.token.data<int64_t>();
  team.ranges(shape[0], 32 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t e = 0; e < columns; ++e) {
        const double n = random_normal(random.key, token_of(token[t]), choice_of(token[t]),
                                       static_cast<uint32_t>(random.first_column + e));
        body(t * columns + e, static_cast<float>(n));
      }
    }
  });
}

// body(g) for every group of the [T, columns] values.
template <typename Body>
void for_each_group(cpu::Team& team, LeafOffsets groups, int64_t columns, const Body& body) {
  const int64_t count = static_cast<int64_t>(groups.size()) - 1;
  team.ranges(count, 2 * groups.back() * columns / std::max<int64_t>(count, 1),
              [&](int64_t begin, int64_t end) {
                for (int64_t g = begin; g < end; ++g) body(static_cast<size_t>(g));
              });
}

}  // namespace

void CpuKernels::sigmoid(ExecContext&, TensorView logits, TensorView scores) {
  const float* x = logits.data<float>();
  float* y = scores.data<float>();
  team_.ranges(logits.elements(), 4, [&](int64_t begin, int64_t end) {
    loops_.scale(end - begin, x + begin, -1.0f, y + begin);
    loops_.exp(end - begin, y + begin, y + begin);
    for (int64_t i = begin; i < end; ++i) y[i] = 1.0f / (1.0f + y[i]);
  });
}

void CpuKernels::sigmoid_backward(ExecContext&, TensorView scores, TensorView dscores,
                                  TensorView dlogits, Write write) {
  const float *s = scores.data<float>(), *ds = dscores.data<float>();
  float* dx = dlogits.data<float>();
  team_.ranges(scores.elements(), 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) put(dx[i], ds[i] * s[i] * (1.0f - s[i]), write);
  });
}

void CpuKernels::normalize_rows(ExecContext&, TensorView x_view, double factor, TensorView y_view) {
  const int64_t columns = x_view.shape()[1];
  team_.ranges(x_view.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = x_view.data<float>() + t * columns;
      const float sum = std::accumulate(x, x + columns, 0.0f);
      loops_.scale(columns, x, sum == 0 ? 0.0f : static_cast<float>(factor) / sum,
                   y_view.data<float>() + t * columns);
    }
  });
}

void CpuKernels::normalize_rows_backward(ExecContext&, TensorView x_view, double factor,
                                         TensorView dy_view, TensorView dx_view, Write write) {
  const int64_t columns = x_view.shape()[1];
  team_.ranges(x_view.shape()[0], 4 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = x_view.data<float>() + t * columns;
      const float* dy = dy_view.data<float>() + t * columns;
      float* dx = dx_view.data<float>() + t * columns;
      const float sum = std::accumulate(x, x + columns, 0.0f);
      const float scale = sum == 0 ? 0.0f : static_cast<float>(factor) / sum;
      const float mean = sum == 0 ? 0.0f : loops_.dot(columns, dy, x) / sum;
      for (int64_t j = 0; j < columns; ++j) put(dx[j], scale * (dy[j] - mean), write);
    }
  });
}

void CpuKernels::add_row(ExecContext&, TensorView x_view, TensorView row, TensorView y_view) {
  const int64_t columns = x_view.shape()[1];
  team_.ranges(x_view.shape()[0], columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      loops_.add(columns, x_view.data<float>() + t * columns, row.data<float>(),
                 y_view.data<float>() + t * columns);
    }
  });
}

void CpuKernels::add_noise(ExecContext&, TensorView logits_view, TensorView noise_logits_view,
                           const RandomRows& random, TensorView noisy_view) {
  const float* logits = logits_view.data<float>();
  const float* noise_logits = noise_logits_view.data<float>();
  float* noisy = noisy_view.data<float>();
  for_each_normal(team_, random, logits_view.shape(), [&](int64_t i, float n) {
    noisy[i] = logits[i] + n * softplus_of(noise_logits[i]);
  });
}

void CpuKernels::add_noise_backward(ExecContext&, TensorView noise_logits_view,
                                    const RandomRows& random, TensorView dnoisy_view,
                                    TensorView dnoise_logits_view, Write write) {
  const float* noise_logits = noise_logits_view.data<float>();
  const float* dnoisy = dnoisy_view.data<float>();
  float* dnoise_logits = dnoise_logits_view.data<float>();
  for_each_normal(team_, random, noise_logits_view.shape(), [&](int64_t i, float n) {
    put(dnoise_logits[i], dnoisy[i] * n * sigmoid_of(noise_logits[i]), write);
  });
}

namespace {

// Of expert e at one token: where its threshold stands in the row, and how far e is above it.
struct Margin {
  int64_t column;
  float z, deviation;
};

// body(t, e, margin) for every element, K < E.
template <typename Body>
void for_each_margin(cpu::Team& team, TensorView logits_view, TensorView noise_logits_view,
                     TensorView noisy_view, int64_t choices, const Body& body) {
  const int64_t experts = logits_view.shape()[1];
  team.ranges(logits_view.shape()[0], 16 * experts, [&](int64_t begin, int64_t end) {
    ReusedVector<int32_t> best(static_cast<size_t>(choices) + 1);
    ReusedVector<uint8_t> chosen(static_cast<size_t>(experts));
    for (int64_t t = begin; t < end; ++t) {
      const float* noisy = noisy_view.data<float>() + t * experts;
      cpu::choose_largest(noisy, experts, choices + 1, best.data());
      chosen.assign(chosen.size(), 0);
      for (int64_t k = 0; k < choices; ++k) chosen[static_cast<size_t>(best[k])] = 1;
      for (int64_t e = 0; e < experts; ++e) {
        const int64_t i = t * experts + e;
        // Without a chosen expert the next one moves up.
        const int64_t rank = chosen[static_cast<size_t>(e)] != 0 ? choices : choices - 1;
        const int64_t column = best[static_cast<size_t>(rank)];
        const float deviation = std::max(softplus_of(noise_logits_view.data<float>()[i]),
                                         std::numeric_limits<float>::min());
        const float z = (logits_view.data<float>()[i] - noisy[column]) / deviation;
        body(t, e, Margin{column, z, deviation});
      }
    }
  });
}

}  // namespace

void CpuKernels::smooth_load(ExecContext&, TensorView logits, TensorView noise_logits,
                             TensorView noisy, int64_t choices, TensorView load_view) {
  const int64_t experts = logits.shape()[1];
  float* load = load_view.data<float>();
  if (choices == experts) {
    std::fill_n(load, load_view.elements(), 1.0f);
    return;
  }
  for_each_margin(
      team_, logits, noise_logits, noisy, choices, [&](int64_t t, int64_t e, const Margin& margin) {
        load[t * experts + e] = 0.5f * std::erfc(-margin.z * static_cast<float>(M_SQRT1_2));
      });
}

void CpuKernels::smooth_load_backward(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                                      TensorView noisy, int64_t choices, TensorView dload_view,
                                      TensorView dlogits_view, TensorView dnoise_logits_view,
                                      TensorView dnoisy_view, Write write) {
  if (write == Write::kOverwrite) {
    for (TensorView gradient : {dlogits_view, dnoise_logits_view, dnoisy_view}) {
      fill_zero(ctx, gradient);
    }
  }
  const int64_t experts = logits.shape()[1];
  if (choices == experts) return;
  const float *dload = dload_view.data<float>(), *noise = noise_logits.data<float>();
  float *dlogits = dlogits_view.data<float>(), *dnoisy = dnoisy_view.data<float>();
  float* dnoise_logits = dnoise_logits_view.data<float>();
  for_each_margin(
      team_, logits, noise_logits, noisy, choices, [&](int64_t t, int64_t e, const Margin& margin) {
        const int64_t i = t * experts + e;
        const float density =
            std::exp(-0.5f * margin.z * margin.z) * static_cast<float>(M_2_SQRTPI * M_SQRT1_2 / 2);
        if (density == 0) return;  // z may be infinite
        const float slope = dload[i] * density / margin.deviation;
        dlogits[i] += slope;
        dnoisy[t * experts + margin.column] -= slope;
        dnoise_logits[i] -= slope * margin.z * sigmoid_of(noise[i]);
      });
}

namespace {

// Sums of values over a group's tokens, and their moments.
struct GroupSums {
  ReusedVector<double> sums;  // [N]
  double mean = 0, variance = 0;
};

GroupSums sums_of(const float* values, int64_t columns, const uint8_t* mask, int64_t begin,
                  int64_t end) {
  GroupSums group{ReusedVector<double>(static_cast<size_t>(columns), 0.0)};
  double* sums = group.sums.data();
  for (int64_t t = begin; t < end; ++t) {
    if (!cpu::is_in(mask, t)) continue;
    const float* row = values + t * columns;
    for (int64_t j = 0; j < columns; ++j) sums[j] += static_cast<double>(row[j]);
  }
  const auto count = static_cast<double>(columns);
  for (const double sum : group.sums) group.mean += sum / count;
  for (const double sum : group.sums) {
    group.variance += (sum - group.mean) * (sum - group.mean) / count;
  }
  return group;
}

}  // namespace

void CpuKernels::cv_squared(ExecContext&, TensorView values, TensorView mask, LeafOffsets groups,
                            TensorView cv) {
  const int64_t columns = values.shape()[1];
  for_each_group(team_, groups, columns, [&](size_t g) {
    const GroupSums group =
        sums_of(values.data<float>(), columns, cpu::mask_of(mask), groups[g], groups[g + 1]);
    cv.data<double>()[g] = group.mean == 0 ? 0.0 : group.variance / (group.mean * group.mean);
  });
}

void CpuKernels::cv_squared_gradient(ExecContext&, TensorView values, TensorView mask_view,
                                     LeafOffsets groups, double factor, TensorView dvalues) {
  const int64_t columns = values.shape()[1];
  const uint8_t* mask = cpu::mask_of(mask_view);
  for_each_group(team_, groups, columns, [&](size_t g) {
    const GroupSums group = sums_of(values.data<float>(), columns, mask, groups[g], groups[g + 1]);
    if (group.mean == 0) return;
    // The same for every token of the group.
    const double outer = factor * 2 / (static_cast<double>(columns) * group.mean * group.mean);
    const double centre = group.mean + group.variance / group.mean;
    ReusedVector<float> slope;
    slope.reserve(group.sums.size());
    for (const double sum : group.sums) slope.push_back(static_cast<float>(outer * (sum - centre)));
    for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
      float* row = dvalues.data<float>() + t * columns;
      if (cpu::is_in(mask, t)) loops_.add(columns, row, slope.data(), row);
    }
  });
}

void CpuKernels::scale_column_groups(ExecContext&, TensorView x_view, TensorView factor_view,
                                     TensorView y_view) {
  const int64_t each = x_view.shape()[1] / factor_view.shape()[1];
  const float *x = x_view.data<float>(), *factor = factor_view.data<float>();
  float* y = y_view.data<float>();
  team_.ranges(factor_view.elements(), 2 * each, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) loops_.scale(each, x + i * each, factor[i], y + i * each);
  });
}

void CpuKernels::scale_column_groups_backward(ExecContext&, TensorView x_view,
                                              TensorView factor_view, TensorView dy_view,
                                              TensorView dx_view, TensorView dfactor_view,
                                              Write write) {
  const int64_t each = x_view.shape()[1] / factor_view.shape()[1];
  const float *x = x_view.data<float>(), *dy = dy_view.data<float>();
  const float* factor = factor_view.data<float>();
  float *dx = dx_view.data<float>(), *dfactor = dfactor_view.data<float>();
  team_.ranges(factor_view.elements(), 4 * each, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      put(dfactor[i], loops_.dot(each, dy + i * each, x + i * each), write);
      for (int64_t j = i * each; j < (i + 1) * each; ++j) put(dx[j], dy[j] * factor[i], write);
    }
  });
}

void CpuKernels::sum_column_groups(ExecContext&, TensorView x_view, TensorView y_view) {
  const int64_t each = x_view.shape()[1] / y_view.shape()[1];
  const float* x = x_view.data<float>();
  float* y = y_view.data<float>();
  team_.ranges(y_view.elements(), each, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      y[i] = std::accumulate(x + i * each, x + (i + 1) * each, 0.0f);
    }
  });
}

}  // namespace switchyard
