// The head's product, its cross-entropy and their gradients, a block of rows at a time.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"
#include "base/reused_memory.h"
#include "ops/row_blocks.h"

namespace switchyard {
namespace {

using cuda::load_floats;
using cuda::store_floats;

// Rows of a block: enough for a product that fills the device, few enough that logits take a
// quarter of a gigabyte at most.
constexpr int64_t kFewestRows = 256, kMostRows = 8192, kBlockLogits = int64_t{1} << 26;

int64_t rows_per_block(int64_t vocabulary) {
  return std::clamp(kBlockLogits / std::max<int64_t>(vocabulary, 1), kFewestRows, kMostRows);
}

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / cuda::kWarpLanes;

struct Objective {
  double scale, smoothing, z;
};

// The largest number met so far and the sum of exp(number - largest).
struct ExpSum {
  float largest, sum;
};
__device__ ExpSum joined(const ExpSum& a, const ExpSum& b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY) return {largest, a.sum + b.sum};
  return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

// Of all threads of the block; barriers inside.
__device__ ExpSum block_exp_sum(ExpSum mine) {
  GPU_SHARED(ExpSum, of_warps, kWarps);
#pragma unroll
  for (int offset = cuda::kWarpLanes / 2; offset > 0; offset /= 2) {
    const ExpSum other{__shfl_xor_sync(cuda::kAllLanes, mine.largest, offset),
                       __shfl_xor_sync(cuda::kAllLanes, mine.sum, offset)};
    mine = joined(mine, other);
  }
  if (threadIdx.x % cuda::kWarpLanes == 0) of_warps[threadIdx.x / cuda::kWarpLanes] = mine;
  __syncthreads();
  ExpSum all = of_warps[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) all = joined(all, of_warps[warp]);
  return all;
}

// Writes a row's loss, and where `gradient` is true replaces its logits by their gradient. A block
// a row. A target outside the vocabulary gives NaN, which training stops at. Bytes of a logit:
// sizeof(T), and 2 more for the gradient, the reading as a rule from the second-level cache.
template <int N, typename T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_rows(T* logits, int64_t words, const int32_t* targets, Objective objective,
                       bool gradient, double* losses, double* z_losses) {
  const int64_t row = blockIdx.x;
  const int32_t target = targets[row];
  T* mine = logits + row * words;
  const int64_t first = threadIdx.x * N, stride = kThreads * N;
  if (target == kIgnoredTarget) {
    if (threadIdx.x == 0) {
      losses[row] = 0;
      if (z_losses != nullptr) z_losses[row] = 0;
    }
    const float zeros[N] = {};
    for (int64_t v = first; gradient && v < words; v += stride) store_floats<N>(mine + v, zeros);
    return;
  }
  ExpSum seen{-INFINITY, 0.0f};
#pragma unroll 4
  for (int64_t v = first; v < words; v += stride) {
    float values[N];
    load_floats<N>(mine + v, values);
    float largest = seen.largest;
#pragma unroll
    for (int k = 0; k < N; ++k) largest = fmaxf(largest, values[k]);
    // Nothing but NaN and -infinity so far: their sum is NaN, or 0.
    const float shift = largest == -INFINITY ? 0.0f : largest;
    float sum = seen.sum * expf(seen.largest - shift);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += expf(values[k] - shift);
    seen = {largest, sum};
  }
  const bool inside = target >= 0 && target < words;
  const float at_target = inside ? cuda::to_float(mine[target]) : nanf("");
  seen = block_exp_sum(seen);  // its barrier: the gradient may replace the target's logit
  const double log_sum = log(static_cast<double>(seen.sum));
  const double log_sum_exp = static_cast<double>(seen.largest) + log_sum;
  if (threadIdx.x == 0) {
    losses[row] = static_cast<double>(seen.largest) - static_cast<double>(at_target) + log_sum;
    if (z_losses != nullptr) z_losses[row] = objective.z * log_sum_exp * log_sum_exp;
  }
  if (!gradient) return;
  const double scale = objective.scale;
  const auto factor = static_cast<float>(scale * (1 + 2 * objective.z * log_sum_exp) /
                                         static_cast<double>(seen.sum));
  const auto spread = static_cast<float>(scale * objective.smoothing / static_cast<double>(words));
  const auto wanted = static_cast<float>(scale * (1 - objective.smoothing));
#pragma unroll 4
  for (int64_t v = first; v < words; v += stride) {
    float values[N];
    load_floats<N>(mine + v, values);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      values[k] = factor * expf(values[k] - seen.largest) - spread;
      if (v + k == target) values[k] -= wanted;
    }
    store_floats<N>(mine + v, values);
  }
}

}  // namespace

void CudaKernels::linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective,
                                       TensorView h, Weight& w, TensorView targets,
                                       LeafOffsets leaves, TensorView losses, TensorView z_losses,
                                       TensorView dh) {
  const bool training = !dh.absent();
  const int64_t rows = h.shape()[0], words = w.shape()[0];
  const RowBlocks blocks(rows, rows_per_block(words),
                         training && ctx.ordered != nullptr ? leaves : LeafOffsets());
  const ScratchScope scope(ctx.scratch);
  const TensorView scratch = ctx.scratch.allocate(h.dtype(), {blocks.longest(), words});
  if (rows == 0) return linear_weight_gradient(ctx, h, scratch, leaves, w);
  ReusedVector<int64_t> leaves_buffer(leaves.size() + 2);

  const Objective numbers{objective.gradient_scale, objective.label_smoothing, objective.z};
  for (int64_t begin = 0; begin < rows;) {
    const int64_t end = blocks.end_of(begin);
    const TensorView part = h.rows(begin, end), logits = scratch.rows(0, end - begin);
    linear(ctx, part, w, logits, {});
    cuda::with_type(h.dtype(), [&]<typename T>() {
      constexpr int N = cuda::kVectorElements<T>;
      const auto kernel = cuda::fits_vectors(logits.data<T>(), words) ? cross_entropy_rows<N, T>
                                                                      : cross_entropy_rows<1, T>;
      double* z = z_losses.absent() ? nullptr : z_losses.data<double>() + begin;
      gpu_launch(kernel, cuda::blocks_for(end - begin, 1), kThreads, 0, cuda::cuda_stream(ctx),
                 logits.data<T>(), words, targets.data<int32_t>() + begin, numbers, training,
                 losses.data<double>() + begin, z);
    });
    if (training) {
      linear_input_gradient(ctx, logits, w, dh.rows(begin, end), Write::kOverwrite);
      linear_weight_gradient(ctx, part, logits, blocks.leaves_of(begin, end, leaves_buffer.data()),
                             w);
    }
    begin = end;
  }
}

}  // namespace switchyard
