#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/choosing.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

// body(first token, tokens, sequence, thread) for every sequence, `cost` elements touched a token.
template <typename Body>
void for_each_sequence(cpu::Team& team, LeafOffsets sequences, int64_t cost, const Body& body) {
  const int64_t count = static_cast<int64_t>(sequences.size()) - 1;
  team.units(count, cost * sequences.back() / std::max<int64_t>(count, 1),
             [&](int64_t b, int thread) {
               const int64_t first = sequences[static_cast<size_t>(b)];
               body(first, sequences[static_cast<size_t>(b) + 1] - first, b, thread);
             });
}

}  // namespace

void CpuKernels::softmax_over_tokens(ExecContext& ctx, TensorView logits_view, TensorView mask_view,
                                     LeafOffsets sequences, TensorView weights_view) {
  const int64_t slots = logits_view.shape()[1];
  const float* logits = logits_view.data<float>();
  const uint8_t* mask = cpu::mask_of(mask_view);
  float* weights = weights_view.data<float>();
  fill_zero(ctx, weights_view);
  const int64_t sequence_count = static_cast<int64_t>(sequences.size()) - 1;
  const ScratchScope scope(ctx.scratch);
  float* all_largest = ctx.scratch.allocate(DType::kFloat32, {sequence_count, slots}).data<float>();
  double* all_sums = ctx.scratch.allocate(DType::kFloat64, {sequence_count, slots}).data<double>();
  const auto normalise = [&](int64_t first, int64_t tokens, int64_t b, int) {
    float* largest = all_largest + b * slots;
    double* sum = all_sums + b * slots;
    std::fill_n(largest, slots, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, slots, 0.0);
    const auto for_each_row = [&](const auto& row) {
      for (int64_t t = first; t < first + tokens; ++t) {
        if (cpu::is_in(mask, t)) row(logits + t * slots, weights + t * slots);
      }
    };
    for_each_row([&](const float* x, float*) {
      for (int64_t n = 0; n < slots; ++n) largest[n] = std::max(largest[n], x[n]);
    });
    for_each_row([&](const float* x, float* w) {
      for (int64_t n = 0; n < slots; ++n) w[n] = x[n] - largest[n];
      loops_.exp(slots, w, w);
      for (int64_t n = 0; n < slots; ++n) sum[n] += static_cast<double>(w[n]);
    });
    for_each_row([&](const float*, float* w) {
      for (int64_t n = 0; n < slots; ++n) w[n] /= static_cast<float>(sum[n]);
    });
  };
  for_each_sequence(team_, sequences, 6 * slots, normalise);
}

void CpuKernels::softmax_over_tokens_backward(ExecContext& ctx, TensorView weights_view,
                                              TensorView dweights_view, LeafOffsets sequences,
                                              TensorView dlogits_view, Write write) {
  const int64_t slots = weights_view.shape()[1];
  const int64_t sequence_count = static_cast<int64_t>(sequences.size()) - 1;
  const ScratchScope scope(ctx.scratch);
  double* all_sums = ctx.scratch.allocate(DType::kFloat64, {sequence_count, slots}).data<double>();
  const auto backward = [&](int64_t first, int64_t tokens, int64_t b, int) {
    const float* weights = weights_view.data<float>() + first * slots;
    const float* dweights = dweights_view.data<float>() + first * slots;
    float* dlogits = dlogits_view.data<float>() + first * slots;
    double* sum = all_sums + b * slots;
    std::fill_n(sum, slots, 0.0);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t n = 0; n < slots; ++n) {
        const int64_t i = t * slots + n;
        sum[n] += static_cast<double>(dweights[i] * weights[i]);
      }
    }
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t n = 0; n < slots; ++n) {
        const int64_t i = t * slots + n;
        const float value = weights[i] * (dweights[i] - static_cast<float>(sum[n]));
        dlogits[i] = write == Write::kOverwrite ? value : dlogits[i] + value;
      }
    }
  };
  for_each_sequence(team_, sequences, 4 * slots, backward);
}

// A sequence's products always have the same shape, so that their bits are the same in every call
// that it stands in (see sgemm.h).

void CpuKernels::mix_rows(ExecContext&, TensorView weights_view, TensorView x_view,
                          LeafOffsets sequences, TensorView rows_view) {
  const int64_t slots = weights_view.shape()[1], width = x_view.shape()[1];
  const float* weights = weights_view.data<float>();
  cpu::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto mix = [&](int64_t first, int64_t tokens, int64_t b, int thread) {
      float* buffer = team_.buffer(thread, cpu::widened<T>((tokens + slots) * width));
      const cpu::Matrix x =
          cpu::as_floats(loops_, x_view.data<T>() + first * width, width, tokens, width, buffer);
      T* rows = rows_view.data<T>() + b * slots * width;
      float* result = cpu::target(rows, buffer + cpu::widened<T>(tokens * width));
      cpu::sgemm(slots, width, tokens, 1.0f, {weights + first * slots, slots, true}, x, 0.0f,
                 result, width);
      cpu::store(loops_, slots * width, result, rows);
    };
    for_each_sequence(team_, sequences, slots * width, mix);
  });
}

void CpuKernels::unmix_rows(ExecContext&, TensorView weights_view, TensorView rows_view,
                            LeafOffsets sequences, TensorView y_view, Write write) {
  const int64_t slots = weights_view.shape()[1], width = y_view.shape()[1];
  const float* weights = weights_view.data<float>();
  const bool adds = write == Write::kAccumulate;
  cpu::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto unmix = [&](int64_t first, int64_t tokens, int64_t b, int thread) {
      float* buffer = team_.buffer(thread, cpu::widened<T>((tokens + slots) * width));
      const cpu::Matrix rows = cpu::as_floats(loops_, rows_view.data<T>() + b * slots * width,
                                              width, slots, width, buffer);
      T* y = y_view.data<T>() + first * width;
      float* strip = buffer + cpu::widened<T>(slots * width);
      float* result = cpu::target(y, strip);
      if (adds) cpu::load(loops_, tokens * width, y, strip);
      cpu::sgemm(tokens, width, slots, 1.0f, {weights + first * slots, slots}, rows,
                 adds ? 1.0f : 0.0f, result, width);
      cpu::store(loops_, tokens * width, result, y);
    };
    for_each_sequence(team_, sequences, slots * width, unmix);
  });
}

void CpuKernels::mixing_gradient(ExecContext&, TensorView x_view, TensorView rows_view,
                                 LeafOffsets sequences, TensorView dweights_view, Write write) {
  const int64_t slots = dweights_view.shape()[1], width = x_view.shape()[1];
  float* dweights = dweights_view.data<float>();
  cpu::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto multiply = [&](int64_t first, int64_t tokens, int64_t b, int thread) {
      float* buffer = team_.buffer(thread, cpu::widened<T>((tokens + slots) * width));
      const cpu::Matrix x =
          cpu::as_floats(loops_, x_view.data<T>() + first * width, width, tokens, width, buffer);
      cpu::Matrix rows = cpu::as_floats(loops_, rows_view.data<T>() + b * slots * width, width,
                                        slots, width, buffer + cpu::widened<T>(tokens * width));
      rows.transposed = true;
      cpu::sgemm(tokens, slots, width, 1.0f, x, rows, write == Write::kAccumulate ? 1.0f : 0.0f,
                 dweights + first * slots, slots);
    };
    for_each_sequence(team_, sequences, slots * width, multiply);
  });
}

}  // namespace switchyard
