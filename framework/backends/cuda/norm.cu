// Root-mean-square normalisation, a warp a row: its second reading comes from the first-level
// cache. The weight's gradient is summed over chunks of rows, then over the chunks of each leaf.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"
#include "backends/cuda/ordered_gradient.h"
#include "base/reused_memory.h"

namespace switchyard {
namespace {

using cuda::kVectorElements;
using cuda::kWarpLanes;
using cuda::load_floats;
using cuda::store_floats;
using cuda::warp_sum;

constexpr int kRowWarps = 4;  // of a block, a row each

// Bytes of an element: 2 sizeof(T).
template <int N, typename T>
__global__ void __launch_bounds__(kRowWarps* kWarpLanes)
    rms_norm_rows(const T* x, const float* w, float epsilon, NormRounding rounding, int64_t rows,
                  int64_t columns, T* y, float* inverse_rms) {
  const int64_t row = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarpLanes;
  if (row >= rows) return;
  const int lane = threadIdx.x % kWarpLanes;
  const T* from = x + row * columns;
  float sum = 0;
#pragma unroll 4
  for (int64_t i = lane * N; i < columns; i += kWarpLanes * N) {
    float values[N];
    load_floats<N>(from + i, values);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += values[k] * values[k];
  }
  const float mean = warp_sum(sum) / static_cast<float>(columns);
  const float inverse = 1.0f / sqrtf(mean + epsilon);
  if (lane == 0) inverse_rms[row] = inverse;
#pragma unroll 4
  for (int64_t i = lane * N; i < columns; i += kWarpLanes * N) {
    float values[N], weights[N];
    load_floats<N>(from + i, values);
    load_floats<N>(w + i, weights);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float normed = values[k] * inverse;
      if (rounding == NormRounding::kBeforeWeight) {
        normed = cuda::to_float(cuda::from_float<T>(normed));
      }
      values[k] = normed * weights[k];
    }
    store_floats<N>(y + row * columns + i, values);
  }
}

// With r = inverse_rms: y_d = x_d r w_d and dr/dx_d = -r^3 x_d / D. Bytes of an element:
// 3 sizeof(T), 4 where dx is added to.
template <int N, typename T>
__global__ void __launch_bounds__(kRowWarps* kWarpLanes)
    rms_norm_input_gradient(const T* x, const float* inverse_rms, const T* dy, const float* w,
                            int64_t rows, int64_t columns, T* dx, Write write) {
  const int64_t row = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarpLanes;
  if (row >= rows) return;
  const int lane = threadIdx.x % kWarpLanes;
  const int64_t first = row * columns;
  const float inverse = inverse_rms[row];
  float dinverse = 0;
#pragma unroll 4
  for (int64_t i = lane * N; i < columns; i += kWarpLanes * N) {
    float values[N], gradients[N], weights[N];
    load_floats<N>(x + first + i, values);
    load_floats<N>(dy + first + i, gradients);
    load_floats<N>(w + i, weights);
#pragma unroll
    for (int k = 0; k < N; ++k) dinverse += gradients[k] * weights[k] * values[k];
  }
  dinverse = warp_sum(dinverse);
  const float through_mean = dinverse * inverse * inverse * inverse / static_cast<float>(columns);
#pragma unroll 2
  for (int64_t i = lane * N; i < columns; i += kWarpLanes * N) {
    float values[N], gradients[N], weights[N], old[N] = {};
    load_floats<N>(x + first + i, values);
    load_floats<N>(dy + first + i, gradients);
    load_floats<N>(w + i, weights);
    if (write == Write::kAccumulate) load_floats<N>(dx + first + i, old);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      values[k] = old[k] + (gradients[k] * weights[k] * inverse - values[k] * through_mean);
    }
    store_floats<N>(dx + first + i, values);
  }
}

// Chunks of at most kChunkRows consecutive rows, none of them in two leaves where sums are ordered.
constexpr int kChunkRows = 64;
struct RowChunks {
  const int64_t* boundaries;  // [chunks + 1]; null: every kChunkRows rows
  int64_t rows;

  __device__ int64_t boundary(int64_t chunk) const {
    return boundaries != nullptr ? boundaries[chunk] : min(chunk * kChunkRows, rows);
  }
};

constexpr int kChunkWarps = 8;

// A block sums dy x inverse_rms over a chunk's rows for kWarpLanes * N columns: warp w takes rows
// w, w + kChunkWarps, ... and the warps' sums are added in order. Bytes of an element:
// 2 sizeof(T).
template <int N, typename T>
__global__ void __launch_bounds__(kChunkWarps* kWarpLanes)
    rms_norm_chunk_sums(const T* x, const float* inverse_rms, const T* dy, int64_t columns,
                        RowChunks chunks, float* sums) {
  GPU_SHARED(float, partial, kChunkWarps* kWarpLanes* N);
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int64_t column = (int64_t{blockIdx.y} * kWarpLanes + lane) * N;
  const int64_t end = chunks.boundary(blockIdx.x + 1);
  float sum[N] = {};
  if (column < columns) {
#pragma unroll 4
    for (int64_t row = chunks.boundary(blockIdx.x) + warp; row < end; row += kChunkWarps) {
      float values[N], gradients[N];
      load_floats<N>(x + row * columns + column, values);
      load_floats<N>(dy + row * columns + column, gradients);
      const float inverse = inverse_rms[row];
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += gradients[k] * values[k] * inverse;
    }
  }
#pragma unroll
  for (int k = 0; k < N; ++k) partial[threadIdx.x * N + k] = sum[k];
  __syncthreads();
  for (int k = threadIdx.x; k < kWarpLanes * N; k += kChunkWarps * kWarpLanes) {
    float total = 0;
#pragma unroll
    for (int w = 0; w < kChunkWarps; ++w) total += partial[w * kWarpLanes * N + k];
    const int64_t at = int64_t{blockIdx.y} * kWarpLanes * N + k;
    if (at < columns) sums[blockIdx.x * columns + at] = total;
  }
}

struct WeightSink {
  float* gradient;
  Write write;
  cuda::OrderedTarget ordered;
  const int64_t* leaf_chunks;  // boundaries of the leaves in chunks; null: not ordered
};

// A block sums the chunks of a leaf (or all) for kWarpLanes columns. Bytes of a chunk's sum: 4.
__global__ void __launch_bounds__(kChunkWarps* kWarpLanes)
    sum_chunks(const float* sums, int64_t chunks, int64_t columns, WeightSink sink) {
  GPU_SHARED(float, partial, kChunkWarps* kWarpLanes);
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int64_t column = int64_t{blockIdx.x} * kWarpLanes + lane;
  const bool ordered = sink.leaf_chunks != nullptr;
  const int64_t begin = ordered ? sink.leaf_chunks[blockIdx.y] : 0;
  const int64_t end = ordered ? sink.leaf_chunks[blockIdx.y + 1] : chunks;
  float sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t c = begin + warp; c < end; c += kChunkWarps) sum += sums[c * columns + column];
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  if (warp != 0 || column >= columns) return;
#pragma unroll
  for (int w = 1; w < kChunkWarps; ++w) sum += partial[w * kWarpLanes + lane];
  if (ordered) {
    cuda::add_ordered(sink.ordered, column, sum);
  } else {
    sink.gradient[column] = sink.write == Write::kAccumulate ? sink.gradient[column] + sum : sum;
  }
}

// The chunks of a call and what their sums join.
struct GradientPlan {
  RowChunks chunks;
  int64_t count, leaves;
  WeightSink sink;
};

GradientPlan plan_gradient(ExecContext& ctx, int64_t rows, LeafOffsets leaves, Weight& weight) {
  if (!cuda::sums_ordered(ctx, weight)) {
    const Write write = weight.next_gradient_write();
    return {{nullptr, rows},
            cuda::ceil_div(rows, kChunkRows),
            1,
            {weight.gradient().data<float>(), write, {}, nullptr}};
  }
  ReusedVector<int64_t> boundaries, leaf_chunks;
  for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
    leaf_chunks.push_back(static_cast<int64_t>(boundaries.size()));
    for (int64_t row = leaves[leaf]; row < leaves[leaf + 1]; row += kChunkRows) {
      boundaries.push_back(row);
    }
  }
  const auto count = static_cast<int64_t>(boundaries.size());
  leaf_chunks.push_back(count);
  boundaries.push_back(rows);
  return {{cuda::to_device(ctx, boundaries).data, rows},
          count,
          static_cast<int64_t>(leaf_chunks.size()) - 1,
          {nullptr, Write::kAccumulate, cuda::ordered_target(ctx, weight),
           cuda::to_device(ctx, leaf_chunks).data}};
}

template <typename T>
bool row_vectors(int64_t columns, const float* w, std::initializer_list<const T*> tensors) {
  bool fit =
      cuda::fits_packs<kVectorElements<T>>(w, columns) && reinterpret_cast<uintptr_t>(w) % 16 == 0;
  for (const T* tensor : tensors) fit = fit && cuda::fits_vectors(tensor, columns);
  return fit;
}

}  // namespace

void CudaKernels::rms_norm(ExecContext& ctx, TensorView x, const Weight& weight, double epsilon,
                           NormRounding rounding, TensorView y, TensorView inverse_rms) {
  const int64_t rows = x.shape()[0], columns = x.shape()[1];
  const float* w = weight.master().data<float>();
  cuda::with_type(x.dtype(), [&]<typename T>() {
    const auto launch = [&](auto kernel) {
      gpu_launch(kernel, cuda::blocks_for(rows, kRowWarps), kRowWarps * kWarpLanes, 0,
                 cuda::cuda_stream(ctx), x.data<T>(), w, static_cast<float>(epsilon), rounding,
                 rows, columns, y.data<T>(), inverse_rms.data<float>());
    };
    row_vectors<T>(columns, w, {x.data<T>(), y.data<T>()})
        ? launch(rms_norm_rows<kVectorElements<T>, T>)
        : launch(rms_norm_rows<1, T>);
  });
}

void CudaKernels::rms_norm_backward(ExecContext& ctx, TensorView x, TensorView inverse_rms,
                                    TensorView dy, LeafOffsets leaves, TensorView dx, Write write,
                                    Weight& weight) {
  const int64_t rows = x.shape()[0], columns = x.shape()[1];
  const float* w = weight.master().data<float>();
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const ScratchScope scope(ctx.scratch);
  const GradientPlan plan = plan_gradient(ctx, rows, leaves, weight);
  float* sums = ctx.scratch.allocate(DType::kFloat32, {plan.count, columns}).data<float>();
  cuda::with_type(x.dtype(), [&]<typename T>() {
    const T *x_rows = x.data<T>(), *dy_rows = dy.data<T>();
    const float* inverse = inverse_rms.data<float>();
    const auto launch = [&]<int N>() {
      gpu_launch(rms_norm_input_gradient<N, T>, cuda::blocks_for(rows, kRowWarps),
                 kRowWarps * kWarpLanes, 0, stream, x_rows, inverse, dy_rows, w, rows, columns,
                 dx.data<T>(), write);
      const dim3 grid(cuda::blocks_for(plan.count, 1), cuda::blocks_for(columns, kWarpLanes * N));
      gpu_launch(rms_norm_chunk_sums<N, T>, grid, kChunkWarps * kWarpLanes, 0, stream, x_rows,
                 inverse, dy_rows, columns, plan.chunks, sums);
    };
    row_vectors<T>(columns, w, {x_rows, dy_rows, dx.data<T>()})
        ? launch.template operator()<kVectorElements<T>>()
        : launch.template operator()<1>();
  });
  const dim3 grid(cuda::blocks_for(columns, kWarpLanes), static_cast<unsigned>(plan.leaves));
  gpu_launch(sum_chunks, grid, kChunkWarps * kWarpLanes, 0, stream, sums, plan.count, columns,
             plan.sink);
}

}  // namespace switchyard
