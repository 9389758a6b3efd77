// Slots as means of tokens and tokens as sums of slots: softmaxes over tokens, and three products
// for each sequence. A product's element is a sum in the order of its inner dimension, whatever
// other rows there are.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/group_columns.h"

namespace switchyard {
namespace cuda {
namespace {

struct Logit {
  const float* logits;
  int64_t slots;
  __device__ float operator()(int64_t t, int64_t n) const { return logits[t * slots + n]; }
};

struct SlotSum {
  GroupPieces sequences;
  int64_t slots;
  const ExpSum<float>* partial;
  ExpSum<float>* sums;  // [sequences, slots]
  __device__ void operator()(int64_t i) const {
    sums[i] = exp_sum_of_pieces(partial, sequences, i / slots, slots, i % slots);
  }
};

struct SlotWeight {
  const float* logits;
  const uint8_t* mask;
  GroupPieces sequences;
  int64_t slots;
  const ExpSum<float>* sums;
  float* weights;
  __device__ void operator()(int64_t i) const {
    const int64_t t = i / slots;
    if (!is_in(mask, t)) {
      weights[i] = 0.0f;
      return;
    }
    const ExpSum<float> whole = sums[group_of(sequences, t) * slots + i % slots];
    weights[i] = expf(logits[i] - whole.largest) / whole.sum;
  }
};

struct WeightProduct {
  const float *weights, *dweights;
  int64_t slots;
  __device__ double operator()(int64_t t, int64_t n) const {
    return static_cast<double>(weights[t * slots + n]) *
           static_cast<double>(dweights[t * slots + n]);
  }
};

struct SlotMean {
  GroupPieces sequences;
  int64_t slots;
  const double* partial;
  float* means;  // [sequences, slots]
  __device__ void operator()(int64_t i) const {
    means[i] = static_cast<float>(sum_of_pieces(partial, sequences, i / slots, slots, i % slots));
  }
};

struct SlotLogitGradient {
  const float *weights, *dweights, *means;
  GroupPieces sequences;
  int64_t slots;
  float* dlogits;
  Write write;
  __device__ void operator()(int64_t i) const {
    const float mean = means[group_of(sequences, i / slots) * slots + i % slots];
    put(dlogits[i], weights[i] * (dweights[i] - mean), write);
  }
};

// c(i, j) = sum over l of a(i, l) b(l, j) within a sequence. An operand's element (i, l) or (l, j)
// is at first + i * row + l * column.
template <typename T>
struct Operand {
  const T* first;
  int64_t row, column;
};

constexpr int kTile = 64, kDepth = 16, kThreadTile = 4;

// A tile [kTile, kDepth] or [kDepth, kTile] of an operand into shared memory, whose other
// dimension has kTile + 1 places; what is beyond the operand's end is 0. Neighbouring threads load
// neighbouring elements.
//   kRows, kColumns  of the tile; stored[row * row_stride + column * column_stride]
template <int kRows, int kColumns, typename T>
__device__ void load_tile(const Operand<T>& from, int64_t first_row, int64_t rows,
                          int64_t first_column, int64_t columns, int row_stride, int column_stride,
                          float* stored) {
  const bool by_column = from.column == 1;
#pragma unroll
  for (int step = 0; step < kRows * kColumns / kRowThreads; ++step) {
    const int i = step * kRowThreads + static_cast<int>(threadIdx.x);
    const int row = by_column ? i / kColumns : i % kRows;
    const int column = by_column ? i % kColumns : i / kRows;
    const int64_t at_row = first_row + row, at_column = first_column + column;
    const bool is_inside = at_row < rows && at_column < columns;
    stored[row * row_stride + column * column_stride] =
        is_inside ? to_float(from.first[at_row * from.row + at_column * from.column]) : 0.0f;
  }
}

// Adds a(tile_row.., :) b(:, tile_column..) to a thread's 4 x 4 elements of the tile: rows
// y + 16 i, columns x + 16 j. All kRowThreads of the block call; barriers inside.
template <typename A, typename B>
__device__ void add_tile_product(const Operand<A>& a, const Operand<B>& b, int64_t rows,
                                 int64_t columns, int64_t inner, int64_t tile_row,
                                 int64_t tile_column, float (&sum)[kThreadTile][kThreadTile]) {
  constexpr int kStride = kTile + 1, kStep = kTile / kThreadTile;
  GPU_SHARED(float, a_tile, kDepth* kStride);
  GPU_SHARED(float, b_tile, kDepth* kStride);
  const int x = static_cast<int>(threadIdx.x) % kStep, y = static_cast<int>(threadIdx.x) / kStep;
  for (int64_t l = 0; l < inner; l += kDepth) {
    load_tile<kTile, kDepth>(a, tile_row, rows, l, inner, 1, kStride, a_tile);
    load_tile<kDepth, kTile>(b, l, inner, tile_column, columns, kStride, 1, b_tile);
    __syncthreads();
#pragma unroll
    for (int depth = 0; depth < kDepth; ++depth) {
      float a_part[kThreadTile], b_part[kThreadTile];
#pragma unroll
      for (int i = 0; i < kThreadTile; ++i) {
        a_part[i] = a_tile[depth * kStride + y + kStep * i];
        b_part[i] = b_tile[depth * kStride + x + kStep * i];
      }
#pragma unroll
      for (int i = 0; i < kThreadTile; ++i) {
#pragma unroll
        for (int j = 0; j < kThreadTile; ++j) sum[i][j] += a_part[i] * b_part[j];
      }
    }
    __syncthreads();
  }
}

// Which product of a sequence: of its tokens' [tokens, slots] weights, [tokens, D] rows of
// activations and [slots, D] rows of slots.
enum class Mixing : uint8_t { kMix, kUnmix, kGradient };

struct MixingArguments {
  GroupPieces sequences;
  int64_t slots, width;
  int64_t tiles_down, tiles_across;  // of the longest sequence's result
  bool accumulate;
};

template <Mixing kMixing, typename T>
struct MixingOperands;
template <typename T>
struct MixingOperands<Mixing::kMix, T> {
  const float* weights;
  const T* x;
  T* rows;
};
template <typename T>
struct MixingOperands<Mixing::kUnmix, T> {
  const float* weights;
  const T* rows;
  T* y;
};
template <typename T>
struct MixingOperands<Mixing::kGradient, T> {
  const T *x, *rows;
  float* dweights;
};

template <Mixing kMixing, typename T>
__global__ void mixing_kernel(MixingArguments in, MixingOperands<kMixing, T> operands) {
  const int64_t tiles = in.tiles_down * in.tiles_across;
  const int64_t sequence = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t tile_row = tile / in.tiles_across * kTile;
  const int64_t tile_column = tile % in.tiles_across * kTile;
  const int64_t first = in.sequences.first(sequence);
  const int64_t tokens = in.sequences.end(sequence) - first;
  const int64_t rows = kMixing == Mixing::kMix ? in.slots : tokens;
  const int64_t columns = kMixing == Mixing::kGradient ? in.slots : in.width;
  if (tile_row >= rows) return;  // the whole block: a shorter sequence
  const int64_t first_slot = sequence * in.slots * in.width;
  float sum[kThreadTile][kThreadTile] = {};
  if constexpr (kMixing == Mixing::kMix) {
    const Operand<float> a{operands.weights + first * in.slots, 1, in.slots};
    const Operand<T> b{operands.x + first * in.width, in.width, 1};
    add_tile_product(a, b, rows, columns, tokens, tile_row, tile_column, sum);
  } else if constexpr (kMixing == Mixing::kUnmix) {
    const Operand<float> a{operands.weights + first * in.slots, in.slots, 1};
    const Operand<T> b{operands.rows + first_slot, in.width, 1};
    add_tile_product(a, b, rows, columns, in.slots, tile_row, tile_column, sum);
  } else {
    const Operand<T> a{operands.x + first * in.width, in.width, 1};
    const Operand<T> b{operands.rows + first_slot, 1, in.width};
    add_tile_product(a, b, rows, columns, in.width, tile_row, tile_column, sum);
  }
  constexpr int kStep = kTile / kThreadTile;
  const int64_t row = tile_row + static_cast<int>(threadIdx.x) / kStep;
  const int64_t column = tile_column + static_cast<int>(threadIdx.x) % kStep;
  const auto store = [&](auto* to) {
    using Result = std::remove_pointer_t<decltype(to)>;
#pragma unroll
    for (int i = 0; i < kThreadTile; ++i) {
#pragma unroll
      for (int j = 0; j < kThreadTile; ++j) {
        const int64_t at_row = row + kStep * i, at_column = column + kStep * j;
        if (at_row >= rows || at_column >= columns) continue;
        Result& place = to[at_row * columns + at_column];
        place = from_float<Result>(in.accumulate ? to_float(place) + sum[i][j] : sum[i][j]);
      }
    }
  };
  if constexpr (kMixing == Mixing::kMix) {
    store(operands.rows + first_slot);
  } else if constexpr (kMixing == Mixing::kUnmix) {
    store(operands.y + first * in.width);
  } else {
    store(operands.dweights + first * in.slots);
  }
}

// `sequences` on the host as well: their longest gives the grid.
template <Mixing kMixing, typename T>
void launch_mixing(ExecContext& ctx, LeafOffsets sequences, int64_t slots, int64_t width,
                   Write write, const MixingOperands<kMixing, T>& operands) {
  int64_t longest = 0;
  for (size_t b = 0; b + 1 < sequences.size(); ++b) {
    longest = std::max(longest, sequences[b + 1] - sequences[b]);
  }
  const ScratchScope scope(ctx.scratch);
  const MixingArguments in{
      to_pieces(ctx, sequences),
      slots,
      width,
      ceil_div(kMixing == Mixing::kMix ? slots : longest, kTile),
      ceil_div(kMixing == Mixing::kGradient ? slots : width, kTile),
      write == Write::kAccumulate,
  };
  gpu_launch(mixing_kernel<kMixing, T>,
             blocks_for(in.sequences.count * in.tiles_down * in.tiles_across, 1), kRowThreads, 0,
             cuda_stream(ctx), in, operands);
}

}  // namespace
}  // namespace cuda

using namespace cuda;  // NOLINT: what the operations below are made of

void CudaKernels::softmax_over_tokens(ExecContext& ctx, TensorView logits_view, TensorView mask,
                                      LeafOffsets sequences, TensorView weights) {
  const int64_t slots = logits_view.shape()[1];
  const float* logits = logits_view.data<float>();
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, sequences);
  auto* partial = allocate_exp_sums<float>(ctx, pieces, slots);
  exp_sum_pieces(ctx, pieces, slots, mask_of(mask), Logit{logits, slots}, partial);
  auto* sums = static_cast<ExpSum<float>*>(
      ctx.scratch.allocate(DType::kFloat32, {pieces.count, slots, 2}).raw());
  each_index(ctx, pieces.count * slots, SlotSum{pieces, slots, partial, sums});
  each_index(ctx, logits_view.elements(),
             SlotWeight{logits, mask_of(mask), pieces, slots, sums, weights.data<float>()});
}

void CudaKernels::softmax_over_tokens_backward(ExecContext& ctx, TensorView weights_view,
                                               TensorView dweights_view, LeafOffsets sequences,
                                               TensorView dlogits, Write write) {
  const int64_t slots = weights_view.shape()[1];
  const float *weights = weights_view.data<float>(), *dweights = dweights_view.data<float>();
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, sequences);
  const double* partial = sum_pieces(ctx, pieces, slots, WeightProduct{weights, dweights, slots});
  float* means = ctx.scratch.allocate(DType::kFloat32, {pieces.count, slots}).data<float>();
  each_index(ctx, pieces.count * slots, SlotMean{pieces, slots, partial, means});
  each_index(
      ctx, weights_view.elements(),
      SlotLogitGradient{weights, dweights, means, pieces, slots, dlogits.data<float>(), write});
}

void CudaKernels::mix_rows(ExecContext& ctx, TensorView weights, TensorView x,
                           LeafOffsets sequences, TensorView rows) {
  with_type(x.dtype(), [&]<typename T>() {
    launch_mixing<Mixing::kMix, T>(ctx, sequences, weights.shape()[1], x.shape()[1],
                                   Write::kOverwrite,
                                   {weights.data<float>(), x.data<T>(), rows.data<T>()});
  });
}

void CudaKernels::unmix_rows(ExecContext& ctx, TensorView weights, TensorView rows,
                             LeafOffsets sequences, TensorView y, Write write) {
  with_type(y.dtype(), [&]<typename T>() {
    launch_mixing<Mixing::kUnmix, T>(ctx, sequences, weights.shape()[1], y.shape()[1], write,
                                     {weights.data<float>(), rows.data<T>(), y.data<T>()});
  });
}

void CudaKernels::mixing_gradient(ExecContext& ctx, TensorView x, TensorView rows,
                                  LeafOffsets sequences, TensorView dweights, Write write) {
  with_type(x.dtype(), [&]<typename T>() {
    launch_mixing<Mixing::kGradient, T>(ctx, sequences, dweights.shape()[1], x.shape()[1], write,
                                        {x.data<T>(), rows.data<T>(), dweights.data<float>()});
  });
}

}  // namespace switchyard
