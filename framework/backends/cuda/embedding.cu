// Tables read by index, and their gradients: tokens are sorted by id, so that the rows of one id
// stand together and are summed in an order that depends on nothing but them.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"
#include "backends/cuda/ordered_gradient.h"

namespace switchyard {
namespace {

using cuda::kAllLanes;
using cuda::kWarpLanes;
using cuda::load_floats;
using cuda::store_floats;

constexpr int kRowWarps = 4;     // of a block, a row each
constexpr int kRowElements = 4;  // of a lane: 16 bytes of float32, 8 of bfloat16

// Bytes of an element: 4 + sizeof(T). A row whose id is outside the table becomes NaN, which
// training stops at.
template <int N, typename T>
__global__ void __launch_bounds__(kRowWarps* kWarpLanes)
    embedding_rows(const float* table, int64_t entries, const int32_t* ids, int64_t tokens,
                   int64_t columns, T* y) {
  const int64_t token = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarpLanes;
  if (token >= tokens) return;
  const int32_t id = ids[token];
  const bool inside = id >= 0 && id < entries;
  const float* from = table + (inside ? id : 0) * columns;
  T* to = y + token * columns;
#pragma unroll 4
  for (int64_t i = threadIdx.x % kWarpLanes * N; i < columns; i += kWarpLanes * N) {
    float row[N];
    load_floats<N>(from + i, row);
#pragma unroll
    for (int k = 0; k < N; ++k) row[k] = inside ? row[k] : nanf("");
    store_floats<N>(to + i, row);
  }
}

// A token and its id in one number: no two are equal, and a sort puts tokens of an id in order.
__device__ uint64_t sort_key(int32_t id, int64_t token) {
  return uint64_t{static_cast<uint32_t>(id)} << 32 | static_cast<uint32_t>(token);
}
__device__ int32_t id_of(uint64_t key) { return static_cast<int32_t>(key >> 32); }
__device__ int64_t token_of_key(uint64_t key) { return static_cast<uint32_t>(key); }

constexpr int kRun = 256;

// Sorts each run of kRun keys: a key's place is the number of smaller ones. Bytes of a token: 12.
__global__ void __launch_bounds__(kRun)
    sort_runs(const int32_t* ids, int64_t tokens, uint64_t* sorted) {
  GPU_SHARED(uint64_t, keys, kRun);
  const int64_t first = int64_t{blockIdx.x} * kRun, token = first + threadIdx.x;
  const uint64_t key = token < tokens ? sort_key(ids[token], token) : ~uint64_t{0};
  keys[threadIdx.x] = key;
  __syncthreads();
  if (token >= tokens) return;
  int smaller = 0;
#pragma unroll 8
  for (int i = 0; i < kRun; ++i) smaller += keys[i] < key ? 1 : 0;
  sorted[first + smaller] = key;
}

// Merges neighbouring sorted runs: a key's place is its own in its run and the number of smaller
// ones in the other. Bytes of a token: 16, and the search, which the cache serves.
__global__ void __launch_bounds__(kRun)
    merge_runs(const uint64_t* sorted, int64_t tokens, int64_t run, uint64_t* merged) {
  const int64_t i = int64_t{blockIdx.x} * kRun + threadIdx.x;
  if (i >= tokens) return;
  const uint64_t key = sorted[i];
  const int64_t mine = i / run * run, other = (i / run ^ 1) * run;
  int64_t low = min(other, tokens), high = min(other + run, tokens);
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (sorted[middle] < key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  merged[min(mine, other) + (i - mine) + (low - min(other, tokens))] = key;
}

// The tokens' keys in order, in ctx.scratch.
const uint64_t* tokens_by_id(ExecContext& ctx, const int32_t* ids, int64_t tokens) {
  const auto keys = [&] {
    const TensorView view = ctx.scratch.allocate(DType::kInt64, {tokens});
    return reinterpret_cast<uint64_t*>(view.data<int64_t>());
  };
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const unsigned blocks = cuda::blocks_for(tokens, kRun);
  uint64_t *sorted = keys(), *merged = keys();
  gpu_launch(sort_runs, blocks, kRun, 0, stream, ids, tokens, sorted);
  for (int64_t run = kRun; run < tokens; run *= 2) {
    gpu_launch(merge_runs, blocks, kRun, 0, stream, sorted, tokens, run, merged);
    std::swap(sorted, merged);
  }
  return sorted;
}

// What the gradient of a table is added to: float32, or the sums of leaves.
struct TableSink {
  float* gradient;
  cuda::OrderedTarget ordered;
  const int64_t* leaves;  // null: not ordered
  int64_t leaf_count;
};

// The tokens [begin, end) whose rows may be summed into one number with token's, if the ids agree:
// its leaf, or all.
struct Tokens {
  int64_t begin, end;
};
__device__ Tokens summed_with(const TableSink& sink, int64_t token, int64_t tokens) {
  if (sink.leaves == nullptr) return {0, tokens};
  int64_t low = 0, high = sink.leaf_count;  // the last leaf that begins at or before the token
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (sink.leaves[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return {sink.leaves[low], sink.leaves[low + 1]};
}

constexpr int kSumWarps = 4, kRowsAtOnce = 4;

// A block sums the rows of one id (of one leaf) over kWarpLanes * N columns if its place is their
// first: warp w takes rows w, w + kSumWarps, ... and the warps' sums are added in order. Bytes of
// an element of dy: sizeof(T), and 8 of the table for each different id.
template <int N, typename T>
__global__ void __launch_bounds__(kSumWarps* kWarpLanes)
    sum_rows_by_id(const uint64_t* sorted, int64_t tokens, const T* dy, int64_t entries,
                   int64_t columns, TableSink sink) {
  GPU_SHARED(float, partial, kSumWarps* kWarpLanes* N);
  const int64_t place = blockIdx.x;
  const uint64_t first = sorted[place];
  const int32_t id = id_of(first);
  if (id < 0 || id >= entries) return;
  const Tokens together = summed_with(sink, token_of_key(first), tokens);
  if (place > 0 && sorted[place - 1] >= sort_key(id, together.begin)) return;
  const uint64_t end = sort_key(id, together.end);  // of the keys summed

  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int64_t column = (int64_t{blockIdx.y} * kWarpLanes + lane) * N;
  const bool inside = column < columns;
  float sum[N] = {};
  bool ended = false;
  for (int64_t at = place + warp; !ended; at += kSumWarps * kRowsAtOnce) {
    float rows[kRowsAtOnce][N] = {};
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      const int64_t i = at + k * kSumWarps;
      ended = ended || i >= tokens || sorted[i] >= end;
      if (ended || !inside) continue;
      load_floats<N>(dy + token_of_key(sorted[i]) * columns + column, rows[k]);
    }
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += rows[k][i];
    }
  }
  store_floats<N>(partial + threadIdx.x * N, sum);
  __syncthreads();
  if (warp != 0 || !inside) return;
  for (int w = 1; w < kSumWarps; ++w) {
    float other[N];
    load_floats<N>(partial + (w * kWarpLanes + lane) * N, other);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += other[i];
  }
  const int64_t element = id * columns + column;
  if (sink.leaves == nullptr) {
    float old[N];
    load_floats<N>(sink.gradient + element, old);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += old[i];
    store_floats<N>(sink.gradient + element, sum);
  } else {
    for (int i = 0; i < N; ++i) cuda::add_ordered(sink.ordered, element + i, sum[i]);
  }
}

// Bytes of an element: 4, and the table's and buckets', which the cache serves.
__global__ void __launch_bounds__(cuda::kLoopThreads)
    bias_of_distances(const float* table, int64_t buckets, const int32_t* bucket, int64_t distances,
                      int64_t heads, float* bias) {
  const int64_t p = int64_t{blockIdx.x} * cuda::kLoopThreads + threadIdx.x;
  const int64_t h = blockIdx.y;
  if (p >= distances) return;
  const int32_t b = bucket[p];
  bias[h * distances + p] = b >= 0 && b < buckets ? table[b * heads + h] : nanf("");
}

// A block sums one (bucket, head) over the distances of leaves blockIdx.z * step and the step - 1
// after it: with ordered sums a leaf is one partial. Bytes of an element of dbias: 4 for each
// bucket, which the cache serves but for the first.
__global__ void __launch_bounds__(cuda::kLoopThreads)
    sum_by_bucket(const float* dbias, const int32_t* bucket, int64_t distances, int64_t leaves,
                  int64_t step, TableSink sink) {
  const int64_t b = blockIdx.x, h = blockIdx.y, heads = gridDim.y;
  const int64_t begin = blockIdx.z * step, end = min(begin + step, leaves);
  float sum = 0;
  for (int64_t p = threadIdx.x; p < distances; p += cuda::kLoopThreads) {
    if (bucket[p] != b) continue;
#pragma unroll 4
    for (int64_t leaf = begin; leaf < end; ++leaf) sum += dbias[(leaf * heads + h) * distances + p];
  }
  sum = cuda::block_sum<cuda::kLoopThreads>(sum);
  if (threadIdx.x != 0) return;
  if (sink.leaves == nullptr) {
    sink.gradient[b * heads + h] += sum;
  } else {
    cuda::add_ordered(sink.ordered, b * heads + h, sum);
  }
}

// The sink of a table whose gradient so far stands in it, or zeros.
TableSink table_sink(ExecContext& ctx, LeafOffsets leaves, Weight& table) {
  if (cuda::sums_ordered(ctx, table)) {
    const cuda::DeviceSpan<int64_t> on_device = cuda::to_device(ctx, leaves);
    return {nullptr, cuda::ordered_target(ctx, table), on_device.data, on_device.size - 1};
  }
  const TensorView gradient = table.gradient();
  if (table.next_gradient_write() == Write::kOverwrite) {
    GPU_CHECK(cudaMemsetAsync(gradient.raw(), 0, gradient.size_bytes(), cuda::cuda_stream(ctx)));
  }
  return {gradient.data<float>(), {}, nullptr, 0};
}

}  // namespace

void CudaKernels::embedding(ExecContext& ctx, const Weight& table_weight, TensorView ids,
                            TensorView y) {
  const int64_t tokens = y.shape()[0], columns = y.shape()[1];
  const float* table = table_weight.master().data<float>();
  cuda::with_type(y.dtype(), [&]<typename T>() {
    const auto launch = [&](auto kernel) {
      gpu_launch(kernel, cuda::blocks_for(tokens, kRowWarps), kRowWarps * kWarpLanes, 0,
                 cuda::cuda_stream(ctx), table, table_weight.shape()[0], ids.data<int32_t>(),
                 tokens, columns, y.data<T>());
    };
    const bool packs = cuda::fits_packs<kRowElements>(table, columns) &&
                       cuda::fits_packs<kRowElements>(y.data<T>(), columns);
    packs ? launch(embedding_rows<kRowElements, T>) : launch(embedding_rows<1, T>);
  });
}

void CudaKernels::embedding_gradient(ExecContext& ctx, TensorView ids, TensorView dy,
                                     LeafOffsets leaves, Weight& table) {
  const ScratchScope scope(ctx.scratch);
  const TableSink sink = table_sink(ctx, leaves, table);
  const int64_t tokens = dy.shape()[0], columns = dy.shape()[1];
  if (tokens == 0) return;
  SWITCHYARD_CHECK(tokens <= std::numeric_limits<int32_t>::max(), tokens, " tokens of a call");
  const uint64_t* sorted = tokens_by_id(ctx, ids.data<int32_t>(), tokens);
  cuda::with_type(dy.dtype(), [&]<typename T>() {
    const auto launch = [&](auto kernel, int elements) {
      const dim3 grid(cuda::blocks_for(tokens, 1),
                      cuda::blocks_for(columns, kWarpLanes * elements));
      gpu_launch(kernel, grid, kSumWarps * kWarpLanes, 0, cuda::cuda_stream(ctx), sorted, tokens,
                 dy.data<T>(), table.shape()[0], columns, sink);
    };
    const bool packs = cuda::fits_packs<kRowElements>(dy.data<T>(), columns);
    packs ? launch(sum_rows_by_id<kRowElements, T>, kRowElements) : launch(sum_rows_by_id<1, T>, 1);
  });
}

void CudaKernels::distance_bias(ExecContext& ctx, const Weight& table, TensorView bucket,
                                TensorView bias) {
  const int64_t heads = bias.shape()[0], distances = bias.shape()[1];
  const dim3 grid(cuda::blocks_for(distances, cuda::kLoopThreads), static_cast<unsigned>(heads));
  gpu_launch(bias_of_distances, grid, cuda::kLoopThreads, 0, cuda::cuda_stream(ctx),
             table.master().data<float>(), table.shape()[0], bucket.data<int32_t>(), distances,
             heads, bias.data<float>());
}

void CudaKernels::distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket,
                                         Weight& table) {
  const ScratchScope scope(ctx.scratch);
  const int64_t leaves = dbias.shape()[0], distances = dbias.shape()[2];
  // Leaves are whole here: no boundaries are needed, only that there are some.
  const int64_t boundaries[] = {0, leaves};
  const TableSink sink = table_sink(ctx, boundaries, table);
  const int64_t step = sink.leaves == nullptr ? std::max<int64_t>(leaves, 1) : 1;
  const dim3 grid(static_cast<unsigned>(table.shape()[0]), static_cast<unsigned>(table.shape()[1]),
                  cuda::blocks_for(leaves, step));
  gpu_launch(sum_by_bucket, grid, cuda::kLoopThreads, 0, cuda::cuda_stream(ctx),
             dbias.data<float>(), bucket.data<int32_t>(), distances, leaves, step, sink);
}

}  // namespace switchyard
