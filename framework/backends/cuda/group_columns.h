// Sums over the tokens of each group, column by column. They are made in pieces of kPieceTokens
// tokens, counted from the group's first one: a group's sums have the same bits wherever it stands
// in a call.
#pragma once

#include "backends/cuda/row_team.h"

namespace switchyard::cuda {

inline constexpr int64_t kPieceTokens = 256;

// A call's groups on the device.
struct GroupPieces {
  const int64_t* offsets = nullptr;  // [count + 1]
  int64_t count = 0;
  int64_t pieces = 0;  // of the longest group

  __device__ int64_t first(int64_t g) const { return offsets[g]; }
  __device__ int64_t end(int64_t g) const { return offsets[g + 1]; }
  // How many pieces group g has.
  __device__ int64_t pieces_of(int64_t g) const {
    return (end(g) - first(g) + kPieceTokens - 1) / kPieceTokens;
  }
  // Entry of a piece's `column` among partial sums [count, pieces, columns].
  __device__ int64_t partial(int64_t g, int64_t piece, int64_t columns, int64_t column) const {
    return (g * pieces + piece) * columns + column;
  }
};

// The caller holds a ScratchScope.
inline GroupPieces to_pieces(ExecContext& ctx, LeafOffsets groups) {
  int64_t longest = 0;
  for (size_t g = 0; g + 1 < groups.size(); ++g) {
    longest = std::max(longest, groups[g + 1] - groups[g]);
  }
  return {to_device(ctx, groups).data, static_cast<int64_t>(groups.size()) - 1,
          ceil_div(longest, kPieceTokens)};
}

inline dim3 piece_grid(const GroupPieces& groups, int64_t columns) {
  const int64_t tiles = ceil_div(columns, kWarpLanes);
  SWITCHYARD_CHECK(tiles <= 65535, columns, " columns");
  return {blocks_for(groups.count * groups.pieces, 1), static_cast<unsigned>(tiles), 1};
}

// A block's piece and this thread's part in it: a column, and every slices-th token.
struct PieceThread {
  int64_t group, piece, begin, end;  // tokens
  int64_t column;
  int lanes, slices, slice;

  __device__ PieceThread(const GroupPieces& groups, int lanes_of_row)
      : group(blockIdx.x / groups.pieces),
        piece(blockIdx.x % groups.pieces),
        begin(groups.first(group) + piece * kPieceTokens),
        end(begin + kPieceTokens < groups.end(group) ? begin + kPieceTokens : groups.end(group)),
        column(static_cast<int64_t>(blockIdx.y) * kWarpLanes +
               static_cast<int>(threadIdx.x) % lanes_of_row),
        lanes(lanes_of_row),
        slices(kRowThreads / lanes_of_row),
        slice(static_cast<int>(threadIdx.x) / lanes_of_row) {}

  // Joins the slices' numbers of each column; the result is every slice's. All threads of the
  // block call; barriers inside.
  template <typename T, typename Join>
  __device__ T join(T own, const Join& join_two) const {
    GPU_SHARED(T, of_thread, kRowThreads);
    of_thread[threadIdx.x] = own;
    __syncthreads();
    for (int half = slices / 2; half > 0; half /= 2) {
      if (slice < half) {
        of_thread[threadIdx.x] =
            join_two(of_thread[threadIdx.x], of_thread[threadIdx.x + half * lanes]);
      }
      __syncthreads();
    }
    const T joined = of_thread[threadIdx.x % lanes];
    __syncthreads();
    return joined;
  }
};

//   partial  [groups, pieces, columns]
template <typename Value>
__global__ void piece_sums_kernel(Value value, GroupPieces groups, int64_t columns, int lanes,
                                  double* partial) {
  const PieceThread thread(groups, lanes);
  if (thread.begin >= thread.end) return;  // the whole block: this group has no such piece
  double sum = 0;
  if (thread.column < columns) {
    for (int64_t t = thread.begin + thread.slice; t < thread.end; t += thread.slices) {
      sum += value(t, thread.column);
    }
  }
  sum = thread.join(sum, [](double a, double b) { return a + b; });
  if (thread.slice == 0 && thread.column < columns) {
    partial[groups.partial(thread.group, thread.piece, columns, thread.column)] = sum;
  }
}

// A matrix's elements; those of tokens left out count as 0.
template <typename T>
struct MaskedValue {
  const T* values;
  int64_t columns;
  const uint8_t* mask;
  __device__ double operator()(int64_t t, int64_t column) const {
    return is_in(mask, t) ? static_cast<double>(values[t * columns + column]) : 0.0;
  }
};

// Partial sums of value(t, column) over the tokens of each piece, for sum_of_pieces. The caller
// holds a ScratchScope.
template <typename Value>
const double* sum_pieces(ExecContext& ctx, const GroupPieces& groups, int64_t columns,
                         const Value& value) {
  auto* partial =
      ctx.scratch.allocate(DType::kFloat64, {groups.count, groups.pieces, columns}).data<double>();
  gpu_launch(piece_sums_kernel<Value>, piece_grid(groups, columns), kRowThreads, 0,
             cuda_stream(ctx), value, groups, columns, lanes_for(columns), partial);
  return partial;
}

__device__ inline double sum_of_pieces(const double* partial, const GroupPieces& groups, int64_t g,
                                       int64_t columns, int64_t column) {
  double sum = 0;
  for (int64_t piece = 0; piece < groups.pieces_of(g); ++piece) {
    sum += partial[groups.partial(g, piece, columns, column)];
  }
  return sum;
}

// The sum of exponentials as exp(largest) * sum; largest is minus infinity where there is no term.
template <typename Real>
struct ExpSum {
  Real largest, sum;
};

template <typename Value, typename Real>
__global__ void piece_exp_sums_kernel(Value value, const uint8_t* mask, GroupPieces groups,
                                      int64_t columns, int lanes, ExpSum<Real>* partial) {
  const PieceThread thread(groups, lanes);
  if (thread.begin >= thread.end) return;  // the whole block
  const int64_t first = thread.column < columns ? thread.begin + thread.slice : thread.end;
  Real largest = -kInfinity<Real>, sum = 0;
  for (int64_t t = first; t < thread.end; t += thread.slices) {
    if (!is_in(mask, t)) continue;
    const Real x = value(t, thread.column);
    largest = x > largest ? x : largest;
  }
  largest = thread.join(largest, [](Real a, Real b) { return a > b ? a : b; });
  for (int64_t t = first; t < thread.end; t += thread.slices) {
    if (is_in(mask, t)) sum += exp(value(t, thread.column) - largest);
  }
  sum = thread.join(sum, [](Real a, Real b) { return a + b; });
  if (thread.slice == 0 && thread.column < columns) {
    partial[groups.partial(thread.group, thread.piece, columns, thread.column)] = {largest, sum};
  }
}

// The same of exp(value(t, column)) over the tokens that the mask lets in, for exp_sum_of_pieces.
//   partial  [groups, pieces, columns]
template <typename Real, typename Value>
void exp_sum_pieces(const ExecContext& ctx, const GroupPieces& groups, int64_t columns,
                    const uint8_t* mask, const Value& value, ExpSum<Real>* partial) {
  gpu_launch(piece_exp_sums_kernel<Value, Real>, piece_grid(groups, columns), kRowThreads, 0,
             cuda_stream(ctx), value, mask, groups, columns, lanes_for(columns), partial);
}
template <typename Real>
ExpSum<Real>* allocate_exp_sums(ExecContext& ctx, const GroupPieces& groups, int64_t columns) {
  const Shape shape = {groups.count, groups.pieces, columns, 2};
  return static_cast<ExpSum<Real>*>(ctx.scratch.allocate(DTypeOf<Real>::value, shape).raw());
}

template <typename Real>
__device__ inline ExpSum<Real> exp_sum_of_pieces(const ExpSum<Real>* partial,
                                                 const GroupPieces& groups, int64_t g,
                                                 int64_t columns, int64_t column) {
  ExpSum<Real> whole{-kInfinity<Real>, 0};
  for (int64_t piece = 0; piece < groups.pieces_of(g); ++piece) {
    const Real largest = partial[groups.partial(g, piece, columns, column)].largest;
    whole.largest = largest > whole.largest ? largest : whole.largest;
  }
  for (int64_t piece = 0; piece < groups.pieces_of(g); ++piece) {
    const ExpSum<Real> part = partial[groups.partial(g, piece, columns, column)];
    // A piece of nothing but minus infinities has no number to scale.
    if (part.largest > -kInfinity<Real>) whole.sum += part.sum * exp(part.largest - whole.largest);
  }
  return whole;
}

// The group that token t belongs to; there may be empty ones.
__device__ inline int64_t group_of(const GroupPieces& groups, int64_t t) {
  int64_t low = 0, high = groups.count;  // the last group that begins at or before t is in between
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (groups.first(middle) <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace switchyard::cuda
