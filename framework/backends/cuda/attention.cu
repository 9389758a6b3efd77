// Attention in one kernel (Dao 2022): softmax over the keys so far, corrected tile by tile. Queries
// that see no key are left to a second one.
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
  const int end = call.keys_end(place.query + place.query_count);
  for (place.key = call.first_key(place.query) / kTile * kTile; place.key < end;
       place.key += kTile) {
    place.key_count = min(kTile, end - place.key);
    const int64_t keys = call.key_offset(place.sequence, place.key, key_head);
    Piece scores = {};
    cuda::dot_products<kSlices>(call, call.q + queries, place.query_count, call.k + keys,
                                place.key_count, a, b, scores);
    cuda::finish_scores(call, place, scores);
    add_scores(scores, rows);
    const uint32_t dropped = cuda::dropped_weights(call, place);
#pragma unroll
    for (int r = 0; r < kPiece; ++r) {
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        scores[r][c] *= cuda::holds(dropped, r, c) ? 0.0f : call.dropout_factor;
      }
    }
    __syncthreads();
    cuda::store_piece<true>(scores, a);
    cuda::add_weighted(call.v + keys, call.key_stride(), place.key_count, call.width, call.packs, a,
                       b, rows.out);
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
    const bool sees_nothing = rows.sum[r] == 0;
    log_sum_exp[of_head + place.query + row] =
        sees_nothing ? cuda::kSeesNothing : rows.largest[r] + logf(rows.sum[r]);
  }
}

constexpr int kRowWarps = 4;  // of a block, a query of a head each

// A query that sees no key attends to all alike: a warp sums all values, a lane every kWarpLanes-th
// element. Bytes of a query: 4, and where it sees nothing those of a head of v.
template <int kSlices, typename T>
__global__ void __launch_bounds__(kRowWarps* cuda::kWarpLanes)
    attend_to_all_keys(AttentionCall<T> call, int64_t rows, const float* log_sum_exp, T* out) {
  const int64_t row = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / cuda::kWarpLanes;
  if (row >= rows || log_sum_exp[row] != cuda::kSeesNothing) return;
  const int i = static_cast<int>(row % call.queries);
  const int head = static_cast<int>(row / call.queries % call.heads);
  const int64_t sequence = row / call.queries / call.heads;
  const T* values = call.v + call.key_offset(sequence, 0, call.key_head_of(head));
  const int64_t token = call.token == nullptr ? 0 : call.token[sequence * call.queries + i];
  constexpr int kElements = kSlices * kTile / cuda::kWarpLanes;
  const int lane = threadIdx.x % cuda::kWarpLanes;
  float sums[kElements] = {};
  constexpr int kAtOnce = 4;  // keys: those of one Philox block
  for (int first = 0; first < call.keys; first += kAtOnce) {
    PhiloxBits bits = {};
    if (call.token != nullptr) {
      bits = random_block(call.key, static_cast<uint32_t>(token), static_cast<uint32_t>(head),
                          static_cast<uint32_t>(first) / kAtOnce);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const bool drops =
          call.token != nullptr && uniform_from_word(bits.word[k]) < call.dropout_rate;
      if (drops || first + k >= call.keys) continue;
      const T* value = values + (first + k) * call.key_stride();
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        const int column = lane + e * cuda::kWarpLanes;
        if (column < call.width) sums[e] += cuda::to_float(value[column]);
      }
    }
  }
  const float share = call.dropout_factor / static_cast<float>(call.keys);
  T* to = out + call.query_offset(sequence, i, head);
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    const int column = lane + e * cuda::kWarpLanes;
    if (column < call.width) to[column] = cuda::from_float<T>(share * sums[e]);
  }
}

// Whether some query may see no key: padding, or a window that ends behind the last key.
bool may_see_nothing(const AttentionInput& in) {
  if (!in.mask.key_segment.absent()) return true;
  const int64_t last = in.mask.query_start + in.q.shape()[1] - 1;
  return in.mask.window > 0 && last - in.mask.window + 1 >= in.k.shape()[1];
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
      if (!may_see_nothing(in)) return;
      const int64_t rows = log_sum_exp.elements();
      gpu_launch(attend_to_all_keys<kSlices, T>, cuda::blocks_for(rows, kRowWarps),
                 kRowWarps * cuda::kWarpLanes, 0, cuda::cuda_stream(ctx), call, rows,
                 log_sum_exp.data<float>(), out.data<T>());
    });
  });
}

}  // namespace switchyard
