// The head's product, its cross-entropy and their gradients, a block of rows at a time.
#include <algorithm>
#include <cmath>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "ops/row_blocks.h"

namespace switchyard {
namespace {

// Rows of a block: few enough that their logits stay in a shared cache between the operations that
// read them, enough that reading and writing the weight's gradient once per block costs little.
constexpr int64_t kFewestRows = 256, kMostRows = 1024, kBlockLogits = int64_t{1} << 23;

int64_t rows_per_block(int64_t vocabulary) {
  return std::clamp(kBlockLogits / vocabulary, kFewestRows, kMostRows);
}

struct RowLoss {
  double loss = 0, z_loss = 0;
};

// Replaces a row of logits by its gradient, where `gradient` is true.
template <typename T>
RowLoss cross_entropy(const cpu::VectorLoops& loops, const CrossEntropy& objective, int32_t target,
                      int64_t words, bool gradient, T* row, float* buffer) {
  if (target == kIgnoredTarget) {
    if (gradient) std::fill_n(row, words, T{});
    return {};
  }
  SWITCHYARD_CHECK(target >= 0 && target < words, "target ", target, " of ", words);
  const float* logits = cpu::load(loops, words, row, buffer);
  const double at_target = static_cast<double>(logits[target]);  // the gradient may replace it
  float* results = gradient ? cpu::target(row, buffer) : nullptr;
  float max = 0;
  const float sum = loops.exp_sum(words, logits, results, &max);
  const double log_sum = std::log(static_cast<double>(sum));
  const double log_sum_exp = static_cast<double>(max) + log_sum;
  const RowLoss losses{static_cast<double>(max) - at_target + log_sum,
                       objective.z * log_sum_exp * log_sum_exp};
  if (!gradient) return losses;

  const double scale = objective.gradient_scale, smoothing = objective.label_smoothing;
  const double factor = scale * (1 + 2 * objective.z * log_sum_exp);
  loops.scale(words, results, static_cast<float>(factor) / sum, results);
  if (smoothing != 0) {
    const auto spread = static_cast<float>(scale * smoothing / static_cast<double>(words));
    for (int64_t v = 0; v < words; ++v) results[v] -= spread;
  }
  results[target] -= static_cast<float>(scale * (1 - smoothing));
  cpu::store(loops, words, results, row);
  return losses;
}

}  // namespace

void CpuKernels::linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView h,
                                      Weight& w, TensorView targets, LeafOffsets leaves,
                                      TensorView losses, TensorView z_losses, TensorView dh) {
  const bool training = !dh.absent();
  const int64_t rows = h.shape()[0], words = w.shape()[0];
  const RowBlocks blocks(rows, rows_per_block(words),
                         training && ctx.ordered != nullptr ? leaves : LeafOffsets());
  const ScratchScope scope(ctx.scratch);
  const TensorView scratch = ctx.scratch.allocate(h.dtype(), {blocks.longest(), words});
  if (rows == 0) return linear_weight_gradient(ctx, h, scratch, leaves, w);
  const auto boundaries = static_cast<int64_t>(leaves.size()) + 2;
  auto* leaves_buffer = ctx.scratch.allocate(DType::kInt64, {boundaries}).data<int64_t>();

  for (int64_t begin = 0; begin < rows;) {
    const int64_t end = blocks.end_of(begin);
    const TensorView part = h.rows(begin, end), logits = scratch.rows(0, end - begin);
    linear(ctx, part, w, logits, {});
    cpu::with_activation(h.dtype(), [&](auto zero) {
      using T = decltype(zero);
      team_.units(end - begin, 4 * words, [&](int64_t row, int thread) {
        float* buffer = team_.buffer(thread, cpu::widened<T>(words));
        const int64_t t = begin + row;
        const RowLoss of_row = cross_entropy(loops_, objective, targets.data<int32_t>()[t], words,
                                             training, logits.data<T>() + row * words, buffer);
        losses.data<double>()[t] = of_row.loss;
        if (!z_losses.absent()) z_losses.data<double>()[t] = of_row.z_loss;
      });
    });
    if (training) {
      linear_input_gradient(ctx, logits, w, dh.rows(begin, end), Write::kOverwrite);
      linear_weight_gradient(ctx, part, logits, blocks.leaves_of(begin, end, leaves_buffer), w);
    }
    begin = end;
  }
}

}  // namespace switchyard
