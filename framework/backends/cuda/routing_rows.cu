// RoutingOps: token rows into expert order and back.
#include <bit>

#include "backends/cuda/choosing.h"
#include "backends/cuda/cuda_kernels.h"

namespace switchyard {
namespace cuda {
namespace {

// Choices are ordered by a stable counting sort: each warp counts the experts of kRunChoices
// consecutive choices, the counts become first rows by running sums over the runs of an expert and
// over experts, and each warp hands out rows to its choices in order.
constexpr int64_t kRunChoices = 512;

// A run's choices, 32 at a time: all lanes of the warp call body(choice, expert or -1).
template <typename Body>
__device__ void over_run(const int32_t* kept, int64_t choices, const Body& body) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRunChoices;
  for (int64_t begin = first; begin < first + kRunChoices && begin < choices; begin += kWarpLanes) {
    const int64_t choice = begin + threadIdx.x;
    body(choice, choice < choices ? kept[choice] : -1);
  }
}

//   counts  [runs, experts]
__global__ void count_runs_kernel(const int32_t* kept, int64_t choices, int64_t experts,
                                  int32_t* counts) {
  GPU_DYN_SHARED(int32_t, of_expert);
  for (int64_t e = threadIdx.x; e < experts; e += kWarpLanes) of_expert[e] = 0;
  __syncwarp();
  over_run(kept, choices, [&](int64_t, int32_t e) {
    if (e >= 0) atomicAdd(&of_expert[e], 1);
  });
  __syncwarp();
  for (int64_t e = threadIdx.x; e < experts; e += kWarpLanes) {
    counts[blockIdx.x * experts + e] = of_expert[e];
  }
}

// Counts of an expert's runs become its choices before each run: a warp for each expert.
__global__ void sum_runs_kernel(int64_t runs, int64_t experts, int32_t* counts, int32_t* totals) {
  const RowTeam team(experts, runs, kWarpLanes);
  int32_t sum = 0;
  for (int64_t begin = 0; begin < runs; begin += kWarpLanes) {
    const int64_t run = begin + team.lane;
    const bool is_run = team.has_row && run < runs;
    const int32_t own = is_run ? counts[run * experts + team.row] : 0;
    const int32_t up_to = warp_running_sum(own);
    if (is_run) counts[run * experts + team.row] = sum + up_to - own;
    sum += __shfl_sync(kAllLanes, up_to, kWarpLanes - 1);
  }
  if (team.has_row && team.lane == 0) totals[team.row] = sum;
}

// Totals of experts become their first rows: one block.
__global__ void sum_experts_kernel(int64_t experts, int32_t* totals) {
  GPU_SHARED(int32_t, sum_of_part, 1);
  int32_t sum = 0;
  for (int64_t begin = 0; begin < experts; begin += kSelectThreads) {
    const int64_t e = begin + threadIdx.x;
    const int32_t own = e < experts ? totals[e] : 0;
    const int32_t up_to = block_running_sum(own);
    if (e < experts) totals[e] = sum + up_to - own;
    if (threadIdx.x == kSelectThreads - 1) sum_of_part[0] = up_to;
    __syncthreads();
    sum += sum_of_part[0];
    __syncthreads();
  }
}

//   bits  of an expert's number
__global__ void place_runs_kernel(const int32_t* kept, int64_t choices, int64_t experts, int bits,
                                  const int32_t* before_run, const int32_t* first_row,
                                  int32_t* source, int32_t* position) {
  GPU_DYN_SHARED(int32_t, next_row);
  for (int64_t e = threadIdx.x; e < experts; e += kWarpLanes) {
    next_row[e] = first_row[e] + before_run[blockIdx.x * experts + e];
  }
  __syncwarp();
  const unsigned earlier_lanes = (1u << threadIdx.x) - 1;
  over_run(kept, choices, [&](int64_t choice, int32_t e) {
    // The lanes with a choice of the same expert.
    unsigned same = __ballot_sync(kAllLanes, e >= 0);
    for (int bit = 0; bit < bits; ++bit) {
      const bool is_set = (e >> bit & 1) != 0;
      const unsigned with_bit = __ballot_sync(kAllLanes, is_set);
      same &= is_set ? with_bit : ~with_bit;
    }
    const int32_t row = e >= 0 ? next_row[e] + __popc(same & earlier_lanes) : -1;
    if (choice < choices) position[choice] = row;
    if (e >= 0) source[row] = static_cast<int32_t>(choice);
    __syncwarp();  // all lanes have read next_row
    if (e >= 0 && (same & earlier_lanes) == 0) next_row[e] += __popc(same);
    __syncwarp();
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;  // NOLINT: what the operations below are made of

void CudaKernels::order_choices(ExecContext& ctx, TensorView kept_view, int64_t experts,
                                TensorView source, TensorView position) {
  const int64_t choices = kept_view.elements(), runs = ceil_div(choices, kRunChoices);
  const int32_t* kept = kept_view.data<int32_t>();
  const ScratchScope scope(ctx.scratch);
  auto* counts = ctx.scratch.allocate(DType::kInt32, {runs, experts}).data<int32_t>();
  auto* totals = ctx.scratch.allocate(DType::kInt32, {experts}).data<int32_t>();
  const cudaStream_t stream = cuda_stream(ctx);
  const size_t shared_bytes = static_cast<size_t>(experts) * sizeof(int32_t);
  gpu_launch(count_runs_kernel, blocks_for(runs, 1), kWarpLanes, shared_bytes, stream, kept,
             choices, experts, counts);
  gpu_launch(sum_runs_kernel, row_blocks(experts, kWarpLanes), kRowThreads, 0, stream, runs,
             experts, counts, totals);
  gpu_launch(sum_experts_kernel, 1, kSelectThreads, 0, stream, experts, totals);
  const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(experts - 1)));
  gpu_launch(place_runs_kernel, blocks_for(runs, 1), kWarpLanes, shared_bytes, stream, kept,
             choices, experts, bits, counts, totals, source.data<int32_t>(),
             position.data<int32_t>());
}

namespace {

struct RowKey {
  const int64_t* token;
  const int32_t* source;
  int32_t choices;
  int64_t* keys;
  __device__ void operator()(int64_t i) const {
    keys[i] = random_row(token[source[i] / choices], source[i] % choices);
  }
};

//   units  of a row
template <typename Unit>
__global__ void gather_rows_kernel(const Unit* __restrict__ x, const int32_t* __restrict__ source,
                                   int32_t choices, int64_t rows, int64_t units,
                                   Unit* __restrict__ gathered) {
  const RowTeam team(rows, units, kWarpLanes);
  if (!team.has_row) return;
  const Unit* from = x + source[team.row] / choices * units;
  Unit* to = gathered + team.row * units;
#pragma unroll 4
  for (int64_t i = team.lane; i < units; i += kWarpLanes) to[i] = from[i];
}

template <typename T, int kPiece>
__global__ void combine_rows_kernel(const T* __restrict__ rows,
                                    const int32_t* __restrict__ position,
                                    const float* __restrict__ weight, int64_t tokens,
                                    int64_t columns, int64_t choices, T* __restrict__ y) {
  const RowTeam team(tokens, columns, kWarpLanes);
  if (!team.has_row) return;
  for (int64_t c = team.lane * kPiece; c < columns; c += kWarpLanes * kPiece) {
    float sum[kPiece] = {};
#pragma unroll 4
    for (int64_t i = team.row * choices; i < (team.row + 1) * choices; ++i) {
      const int32_t place = position[i];
      if (place < 0) continue;
      const float factor = weight == nullptr ? 1.0f : weight[i];
      const auto piece = load_piece<kPiece>(rows + place * columns + c);
#pragma unroll
      for (int j = 0; j < kPiece; ++j) sum[j] += factor * to_float(piece.values[j]);
    }
    Piece<T, kPiece> piece;
#pragma unroll
    for (int j = 0; j < kPiece; ++j) piece.values[j] = from_float<T>(sum[j]);
    store_piece(y + team.row * columns + c, piece);
  }
}

template <typename T, int kPiece>
__global__ void scale_rows_kernel(const T* __restrict__ dy, const int32_t* __restrict__ source,
                                  const float* __restrict__ weight, int32_t choices, int64_t rows,
                                  int64_t columns, T* __restrict__ drows) {
  const RowTeam team(rows, columns, kWarpLanes);
  if (!team.has_row) return;
  const int32_t choice = source[team.row];
  const float factor = weight == nullptr ? 1.0f : weight[choice];
  const T* from = dy + choice / choices * columns;
#pragma unroll 2
  for (int64_t c = team.lane * kPiece; c < columns; c += kWarpLanes * kPiece) {
    auto piece = load_piece<kPiece>(from + c);
#pragma unroll
    for (T& value : piece.values) value = from_float<T>(factor * to_float(value));
    store_piece(drows + team.row * columns + c, piece);
  }
}

// A warp for each choice.
template <typename T, int kPiece>
__global__ void weight_gradient_kernel(const T* __restrict__ rows,
                                       const int32_t* __restrict__ position,
                                       const T* __restrict__ dy, int64_t choices_of_token,
                                       int64_t choices, int64_t columns,
                                       float* __restrict__ dweight) {
  const RowTeam team(choices, columns, kWarpLanes);
  if (!team.has_row) return;  // the whole warp
  const int32_t place = position[team.row];
  float sum = 0;
  if (place >= 0) {
    const T *row = rows + place * columns, *dtoken = dy + team.row / choices_of_token * columns;
#pragma unroll 2
    for (int64_t c = team.lane * kPiece; c < columns; c += kWarpLanes * kPiece) {
      const auto row_piece = load_piece<kPiece>(row + c), dy_piece = load_piece<kPiece>(dtoken + c);
#pragma unroll
      for (int j = 0; j < kPiece; ++j) {
        sum += to_float(row_piece.values[j]) * to_float(dy_piece.values[j]);
      }
    }
  }
  sum = warp_sum(sum);
  if (team.lane == 0) dweight[team.row] = sum;
}

}  // namespace

void CudaKernels::gather_row_keys(ExecContext& ctx, TensorView token, TensorView source,
                                  int64_t choices, TensorView keys) {
  each_index(ctx, keys.elements(),
             RowKey{token.data<int64_t>(), source.data<int32_t>(), static_cast<int32_t>(choices),
                    keys.data<int64_t>()});
}

void CudaKernels::gather_rows(ExecContext& ctx, TensorView x, TensorView source, int64_t choices,
                              TensorView rows) {
  const int64_t count = rows.shape()[0];
  const auto row_bytes = rows.shape()[1] * static_cast<int64_t>(size_of(rows.dtype()));
  const auto gather = [&]<typename Unit>() {
    gpu_launch(gather_rows_kernel<Unit>, row_blocks(count, kWarpLanes), kRowThreads, 0,
               cuda_stream(ctx), static_cast<const Unit*>(x.raw()), source.data<int32_t>(),
               static_cast<int32_t>(choices), count, row_bytes / static_cast<int64_t>(sizeof(Unit)),
               static_cast<Unit*>(rows.raw()));
  };
  const auto* from = static_cast<const char*>(x.raw());
  const auto* to = static_cast<const char*>(rows.raw());
  if (fits_vectors(from, row_bytes) && fits_vectors(to, row_bytes)) {
    gather.operator()<uint4>();
  } else if (rows.dtype() == DType::kFloat32) {
    gather.operator()<uint32_t>();
  } else {
    gather.operator()<uint16_t>();
  }
}

void CudaKernels::combine_rows(ExecContext& ctx, TensorView rows_view, TensorView position,
                               TensorView weight, TensorView y_view) {
  const int64_t tokens = y_view.shape()[0], columns = y_view.shape()[1];
  with_type(y_view.dtype(), [&]<typename T>() {
    const T* rows = rows_view.data<T>();
    T* y = y_view.data<T>();
    with_pieces<T>(
        columns,
        [&]<int kPiece>() {
          gpu_launch(combine_rows_kernel<T, kPiece>, row_blocks(tokens, kWarpLanes), kRowThreads, 0,
                     cuda_stream(ctx), rows, position.data<int32_t>(),
                     weight.absent() ? nullptr : weight.data<float>(), tokens, columns,
                     position.shape()[1], y);
        },
        rows, y);
  });
}

void CudaKernels::combine_rows_backward(ExecContext& ctx, TensorView rows_view, TensorView source,
                                        TensorView position, TensorView weight_view,
                                        TensorView dy_view, TensorView drows_view,
                                        TensorView dweight) {
  const int64_t columns = dy_view.shape()[1], choices = position.shape()[1];
  const int64_t row_count = drows_view.shape()[0];
  const float* weight = weight_view.absent() ? nullptr : weight_view.data<float>();
  with_type(dy_view.dtype(), [&]<typename T>() {
    const T *rows = rows_view.data<T>(), *dy = dy_view.data<T>();
    T* drows = drows_view.data<T>();
    with_pieces<T>(
        columns,
        [&]<int kPiece>() {
          gpu_launch(scale_rows_kernel<T, kPiece>, row_blocks(row_count, kWarpLanes), kRowThreads,
                     0, cuda_stream(ctx), dy, source.data<int32_t>(), weight,
                     static_cast<int32_t>(choices), row_count, columns, drows);
          if (dweight.absent()) return;
          gpu_launch(weight_gradient_kernel<T, kPiece>, row_blocks(position.elements(), kWarpLanes),
                     kRowThreads, 0, cuda_stream(ctx), rows, position.data<int32_t>(), dy, choices,
                     position.elements(), columns, dweight.data<float>());
        },
        rows, dy, drows);
  });
}

}  // namespace switchyard
