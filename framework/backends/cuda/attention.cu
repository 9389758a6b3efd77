// Attention in one kernel (Dao 2022): softmax over the keys so far, corrected tile by tile.
#include "backends/cuda/attention_tiles.h"
#include "backends/cuda/cuda_kernels.h"

namespace switchyard {
namespace {

using cuda::AttentionCall;
using cuda::kPiece;
using cuda::kTile;
using cuda::Piece;
using cuda::TilePlace;

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

// Adds the keys of a tile to their queries' sums. Barriers inside, one before a and b are written.
template <int kSlices, typename T>
__device__ void add_tile(const AttentionCall<T>& call, const TilePlace& place, const T* values,
                         float* a, float* b, Piece& scores, RowSums<kSlices>& rows) {
  add_scores(scores, rows);
  const uint32_t dropped = cuda::dropped_weights(call, place);
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      scores[r][c] *= cuda::kept(dropped, r, c, call.dropout_factor);
    }
  }
  __syncthreads();
  cuda::store_piece<true>(scores, a);
  cuda::add_weighted(values, call.key_stride(), place.key_count, call.width, call.packs, a, b,
                     rows.out);
}

// A block computes kTile queries of a head, with 4 kTile^2 width operations for a tile of keys.
// Elements of out's shape move as q and out once, those of k and v once a query tile (as a rule
// from the second-level cache, as q for every tile of keys but the first).
template <int kSlices, typename T>
__global__ void __launch_bounds__(cuda::kTileThreads, cuda::tile_blocks(kSlices))
    attention_tiles(AttentionCall<T> call, T* out, float* log_sum_exp) {
  GPU_SHARED(float, a, cuda::kTileFloats);
  GPU_SHARED(float, b, cuda::kTileFloats);
  const int tile = gridDim.x - 1 - blockIdx.x;  // longest first
  TilePlace place{blockIdx.z, static_cast<int>(blockIdx.y), tile * kTile, 0, 0, 0};
  place.query_count = min(kTile, call.queries - place.query);
  const int key_head = call.key_head_of(place.head);
  const int64_t queries = call.query_offset(place.sequence, place.query, place.head);

  RowSums<kSlices> rows = {};
  for (float& largest : rows.largest) largest = -INFINITY;
  int end = call.keys_end(place.query + place.query_count);
  for (place.key = call.first_key(place.query) / kTile * kTile; place.key < end;
       place.key += kTile) {
    place.key_count = min(kTile, end - place.key);
    const int64_t keys = call.key_offset(place.sequence, place.key, key_head);
    Piece scores = {};
    cuda::dot_products<kSlices>(call, call.q + queries, place.query_count, call.k + keys,
                                place.key_count, a, b, scores);
    cuda::finish_scores(call, place, scores);
    add_tile(call, place, call.v + keys, a, b, scores, rows);
  }

  // A query that saw nothing attends to all keys alike.
  bool sees_nothing[kPiece], some = false;
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    sees_nothing[r] = rows.sum[r] == 0 && cuda::piece_row() + r < place.query_count;
    some = some || sees_nothing[r];
  }
  end = __syncthreads_or(some) ? call.keys : 0;
  for (place.key = 0; place.key < end; place.key += kTile) {
    place.key_count = min(kTile, end - place.key);
    Piece scores;
#pragma unroll
    for (int r = 0; r < kPiece; ++r) {
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        const bool alike = sees_nothing[r] && cuda::piece_column() + c < place.key_count;
        scores[r][c] = alike ? 0.0f : -INFINITY;
      }
    }
    add_tile(call, place, call.v + call.key_offset(place.sequence, place.key, key_head), a, b,
             scores, rows);
  }

  float factor[kPiece];
#pragma unroll
  for (int r = 0; r < kPiece; ++r) factor[r] = 1.0f / rows.sum[r];
  cuda::store_vectors(rows.out, factor, place.query_count, call.width, call.query_stride(),
                      call.packs, out + queries);
  if (cuda::piece_column() != 0) return;
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    const int row = cuda::piece_row() + r;
    if (row >= place.query_count) continue;
    const int64_t of_head = (place.sequence * call.heads + place.head) * call.queries;
    log_sum_exp[of_head + place.query + row] =
        sees_nothing[r] ? cuda::kSeesNothing : rows.largest[r] + logf(rows.sum[r]);
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
