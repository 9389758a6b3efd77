// Attention in one kernel (Dao 2022): softmax over the keys so far, corrected tile by tile.
#include "backends/cuda/attention_tiles.h"
#include "backends/cuda/cuda_kernels.h"

namespace switchyard {
namespace {

using cuda::AttentionCall;
using cuda::kPiece;
using cuda::kTile;
using cuda::Piece;

// A query's softmax so far, of the rows of a thread's piece.
template <int kSlices>
struct RowSums {
  Piece out[kSlices];
  float largest[kPiece], sum[kPiece];
};

// Replaces scores by what the values are to be multiplied by, and corrects the sums so far.
template <int kSlices>
__device__ void add_scores(Piece& scores, RowSums<kSlices>& rows) {
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    float largest = scores[r][0];
#pragma unroll
    for (int c = 1; c < kPiece; ++c) largest = fmaxf(largest, scores[r][c]);
    largest = fmaxf(rows.largest[r], cuda::row_max(largest));
    const float shift = largest == -INFINITY ? 0.0f : largest;  // nothing seen so far
    const float correction = expf(rows.largest[r] - shift);
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      scores[r][c] = expf(scores[r][c] - shift);
      sum += scores[r][c];
    }
    rows.sum[r] = rows.sum[r] * correction + cuda::row_sum(sum);
    rows.largest[r] = largest;
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
#pragma unroll
      for (int c = 0; c < kPiece; ++c) rows.out[slice][r][c] *= correction;
    }
  }
}

// A block computes kTile queries of a head. For each tile of kTile keys it moves 4 tiles of vectors
// (q, k, v and, for heads wider than kTile, q again) through shared memory and does 4 kTile^2 width
// operations on them; q, k and v come from memory once a query tile or, as a rule, from the
// second-level cache. Bytes of an element of out: 2 sizeof(T), and k's and v's.
template <int kSlices, typename T>
__global__ void __launch_bounds__(cuda::kTileThreads)
    attention_tiles(AttentionCall<T> call, T* out, float* log_sum_exp) {
  GPU_SHARED(float, a, cuda::kTileFloats);
  GPU_SHARED(float, b, cuda::kTileFloats);
  GPU_SHARED(int, some_see_nothing, 1);
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;  // longest first
  const int head = blockIdx.y, key_head = call.key_head_of(head);
  const int64_t sequence = blockIdx.z;
  const int count = min(kTile, call.queries - first_query);
  const int64_t offset = call.query_offset(sequence, first_query, head);
  const bool drops = call.token != nullptr;

  RowSums<kSlices> rows = {};
  bool sees_nothing[kPiece] = {};
#pragma unroll
  for (int r = 0; r < kPiece; ++r) rows.largest[r] = -INFINITY;
  if (threadIdx.x == 0) *some_see_nothing = 0;

  // A second pass over all keys only where queries have seen none in the first.
  for (int pass = 0; pass < 2; ++pass) {
    const int begin = pass == 0 ? call.first_key(first_query) : 0;
    const int end = pass == 0 ? call.keys_end(first_query + count) : call.keys;
    for (int key = begin / kTile * kTile; key < end; key += kTile) {
      const int64_t keys_offset = call.key_offset(sequence, key, key_head);
      const int keys = min(kTile, end - key);
      Piece scores = {};
      if (pass == 0) {
        cuda::dot_products<kSlices>(call, call.q + offset, count, call.k + keys_offset, keys, a, b,
                                    scores);
        cuda::finish_scores(call, sequence, head, first_query, key, scores);
      } else {
#pragma unroll
        for (int r = 0; r < kPiece; ++r) {
#pragma unroll
          for (int c = 0; c < kPiece; ++c) {
            const bool alike = sees_nothing[r] && key + cuda::piece_column() + c < call.keys;
            scores[r][c] = alike ? 0.0f : -INFINITY;
          }
        }
      }
      add_scores(scores, rows);
#pragma unroll
      for (int r = 0; r < kPiece; ++r) {
        if (!drops) break;
        float factors[kPiece];
        const int i = first_query + cuda::piece_row() + r;
        cuda::dropout_factors(call, sequence, head, i, key, factors);
#pragma unroll
        for (int c = 0; c < kPiece; ++c) scores[r][c] *= factors[c];
      }
      __syncthreads();
      cuda::store_piece<true>(scores, a);
      cuda::add_weighted(call.v + keys_offset, call.key_stride(), keys, call.width, call.packs, a,
                         b, rows.out);
    }
    if (pass == 1) break;
#pragma unroll
    for (int r = 0; r < kPiece; ++r) {
      sees_nothing[r] = rows.sum[r] == 0 && cuda::piece_row() + r < count;
    }
    __syncthreads();
    for (const bool nothing : sees_nothing) {
      if (nothing && cuda::piece_column() == 0) atomicOr(some_see_nothing, 1);
    }
    __syncthreads();
    if (*some_see_nothing == 0) break;
  }

  float factor[kPiece];
#pragma unroll
  for (int r = 0; r < kPiece; ++r) factor[r] = 1.0f / rows.sum[r];
  cuda::store_vectors(rows.out, factor, count, call.width, call.query_stride(), call.packs,
                      out + offset);
  if (cuda::piece_column() != 0) return;
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    const int row = cuda::piece_row() + r;
    if (row >= count) continue;
    const int64_t at = (sequence * call.heads + head) * call.queries + first_query + row;
    log_sum_exp[at] = sees_nothing[r] ? cuda::kSeesNothing : rows.largest[r] + logf(rows.sum[r]);
  }
}

}  // namespace

void CudaKernels::attention(ExecContext& ctx, const AttentionInput& in, TensorView out,
                            TensorView log_sum_exp) {
  cuda::with_type(in.q.dtype(), [&]<typename T>() {
    AttentionCall<T> call = cuda::attention_call<T>(in);
    call.packs = call.packs && cuda::fits_vectors(out.data<T>(), call.width);
    const dim3 grid(cuda::blocks_for(call.queries, kTile), static_cast<unsigned>(call.heads),
                    static_cast<unsigned>(in.q.shape()[0]));
    cuda::with_slices(call.width, [&]<int kSlices>() {
      gpu_launch(attention_tiles<kSlices, T>, grid, cuda::kTileThreads, 0, cuda::cuda_stream(ctx),
                 call, out.data<T>(), log_sum_exp.data<float>());
    });
  });
}

}  // namespace switchyard
