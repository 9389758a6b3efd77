// Attention's gradients: scores are computed again, and what softmax takes off every weight's
// gradient is dout . out (Dao 2022). One kernel owns queries and sums over keys, for dq and the
// bias; another owns keys and sums over queries, for dk and dv: two more products than one kernel
// for all would need, but no sum is shared between blocks, so that each has one order.
#include "backends/cuda/attention_tiles.h"
#include "backends/cuda/cuda_kernels.h"

namespace switchyard {
namespace {

using cuda::AttentionCall;
using cuda::kPiece;
using cuda::kTile;
using cuda::kWarpLanes;
using cuda::Piece;
using cuda::TilePlace;

template <typename T>
struct BackwardCall {
  AttentionCall<T> in;
  const T* dout;
  const float* log_sum_exp;  // [B, H, Sq]
  const float* delta;        // [B, H, Sq]: dout . out
  const int* sees_nothing;   // [B, query tiles]: whether some query of the tile sees no key
};

constexpr int kRowWarps = 4;  // of a block, a query of a head each

// Bytes of an element of out: 2 sizeof(T).
template <typename T>
__global__ void __launch_bounds__(kRowWarps* kWarpLanes)
    dot_with_out(AttentionCall<T> call, const T* out, const T* dout, int64_t rows, float* delta) {
  const int64_t row = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarpLanes;
  if (row >= rows) return;
  float sum = 0;
  for (int i = threadIdx.x % kWarpLanes; i < call.width; i += kWarpLanes) {
    sum += cuda::to_float(out[row * call.width + i]) * cuda::to_float(dout[row * call.width + i]);
  }
  sum = cuda::warp_sum(sum);
  if (threadIdx.x % kWarpLanes != 0) return;
  const int64_t head = row % call.heads, query = row / call.heads;  // counted over sequences
  const int64_t sequence = query / call.queries;
  delta[(sequence * call.heads + head) * call.queries + query % call.queries] = sum;
}

// A warp a query tile; what a query sees is the same for every head. Bytes of a query: 4.
__global__ void __launch_bounds__(kWarpLanes)
    find_queries_without_keys(const float* log_sum_exp, int heads, int queries, int* sees_nothing) {
  const int64_t sequence = blockIdx.y;
  const float* of_head = log_sum_exp + sequence * heads * queries;
  bool nothing = false;
#pragma unroll
  for (int row = 0; row < kTile; row += kWarpLanes) {
    const int i = blockIdx.x * kTile + row + threadIdx.x;
    nothing = nothing || (i < queries && of_head[i] == cuda::kSeesNothing);
  }
  const bool some = __any_sync(cuda::kAllLanes, nothing);
  if (threadIdx.x == 0) sees_nothing[sequence * gridDim.x + blockIdx.x] = some ? 1 : 0;
}

// Of the queries of a thread's piece.
struct QueryRows {
  float log_sum_exp[kPiece], delta[kPiece];
};
template <typename T>
__device__ QueryRows load_rows(const BackwardCall<T>& call, int64_t sequence, int head, int first) {
  QueryRows rows = {};
  const int64_t of_head = (sequence * call.in.heads + head) * call.in.queries;
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    const int i = first + cuda::piece_row() + r;
    if (i >= call.in.queries) continue;
    rows.log_sum_exp[r] = call.log_sum_exp[of_head + i];
    rows.delta[r] = call.delta[of_head + i];
  }
  return rows;
}

// Turns the scores of a piece into the weights of the values, after dropout, and the products of
// dout with the values into the gradients of the scores.
template <typename T>
__device__ void score_gradients(const BackwardCall<T>& call, const TilePlace& place,
                                const QueryRows& rows, Piece& weights, Piece& gradients) {
  const float alike = 1.0f / static_cast<float>(call.in.keys);
  const uint32_t dropped = cuda::dropped_weights(call.in, place);
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    const int row = cuda::piece_row() + r;
    const bool sees_nothing = rows.log_sum_exp[r] == cuda::kSeesNothing;
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      const bool real = row < place.query_count && cuda::piece_column() + c < place.key_count;
      float weight = expf(weights[r][c] - rows.log_sum_exp[r]);
      if (sees_nothing) weight = alike;  // its scores are constants
      if (!real) weight = 0.0f;
      const float factor = cuda::holds(dropped, r, c) ? 0.0f : call.in.dropout_factor;
      const float gradient = weight * (factor * gradients[r][c] - rows.delta[r]);
      gradients[r][c] = sees_nothing ? 0.0f : gradient;
      weights[r][c] = weight * factor;
    }
  }
}

// The weights and score gradients of a tile. Barriers inside, one before a and b are written.
template <int kSlices, typename T>
__device__ void compute_tile(const BackwardCall<T>& call, const TilePlace& place, int64_t queries,
                             int64_t keys, float* a, float* b, Piece& weights, Piece& gradients) {
  const AttentionCall<T>& in = call.in;
  cuda::dot_products<kSlices>(in, in.q + queries, place.query_count, in.k + keys, place.key_count,
                              a, b, weights);
  cuda::finish_scores(in, place, weights);
  cuda::dot_products<kSlices>(in, call.dout + queries, place.query_count, in.v + keys,
                              place.key_count, a, b, gradients);
  const QueryRows rows = load_rows(call, place.sequence, place.head, place.query);
  score_gradients(call, place, rows, weights, gradients);
}

// A tile has 2 kTile - 1 distances key - query; sum of the e-th of a tile stored [key][query].
constexpr int kTileDistances = 2 * kTile - 1;
__device__ float sum_of_distance(const float* tile, int e) {
  const int begin = max(0, kTile - 1 - e), end = min(kTile, kTileDistances - e);
  float sum = 0;
#pragma unroll 8
  for (int row = begin; row < end; ++row) {
    sum += tile[(row + e - (kTile - 1)) * cuda::kStride + row];
  }
  return sum;
}

// A block computes dq of kTile queries of a head, with 6 kTile^2 width operations for a tile of
// keys. Elements of out's shape move as q, dout and dq once, those of k and v once a query tile
// (as a rule from the second-level cache).
//   distances  null, or zeroed [B, H, query tiles, distance_row]: the sums of score gradients over
//              the tile's queries, entry key - query + kTile - 1 with the query's row in the tile
template <int kSlices, typename T>
__global__ void __launch_bounds__(cuda::kTileThreads, cuda::tile_blocks(kSlices))
    query_gradient_tiles(BackwardCall<T> call, T* dq, float* distances, int distance_row) {
  GPU_SHARED(float, a, cuda::kTileFloats);
  GPU_SHARED(float, b, cuda::kTileFloats);
  GPU_SHARED(float, later, kTile);  // sums of distances that the next tile has, too
  const AttentionCall<T>& in = call.in;
  const int tile = gridDim.x - 1 - blockIdx.x;  // longest first
  TilePlace place{blockIdx.z, static_cast<int>(blockIdx.y), tile * kTile, 0, 0, 0};
  place.query_count = min(kTile, in.queries - place.query);
  const int key_head = in.key_head_of(place.head);
  const int64_t queries = in.query_offset(place.sequence, place.query, place.head);
  if (distances != nullptr) {
    distances += ((place.sequence * in.heads + place.head) * gridDim.x + tile) * distance_row;
  }
  if (threadIdx.x < kTile) later[threadIdx.x] = 0.0f;

  Piece sums[kSlices] = {};
  const int begin = in.first_key(place.query) / kTile * kTile;
  const int end = in.keys_end(place.query + place.query_count);
  for (place.key = begin; place.key < end; place.key += kTile) {
    place.key_count = min(kTile, end - place.key);
    const int64_t keys = in.key_offset(place.sequence, place.key, key_head);
    Piece weights = {}, gradients = {};
    compute_tile<kSlices>(call, place, queries, keys, a, b, weights, gradients);
    __syncthreads();
    cuda::store_piece<true>(gradients, a);
    cuda::add_weighted(in.k + keys, in.key_stride(), place.key_count, in.width, in.packs, a, b,
                       sums);
    if (distances == nullptr) continue;
    const int e = threadIdx.x;
    const float sum = e < kTileDistances ? sum_of_distance(a, e) : 0.0f;
    if (e < kTile) distances[place.key + e] = later[e] + sum;
    __syncthreads();
    if (e >= kTile && e < kTileDistances) later[e - kTile] = sum;
  }
  const float factor[kPiece] = {in.scale, in.scale, in.scale, in.scale};
  cuda::store_vectors(sums, factor, place.query_count, in.width, in.query_stride(), in.packs,
                      dq + queries);
  if (distances == nullptr || begin >= end) return;
  __syncthreads();
  if (threadIdx.x < kTile) distances[place.key + threadIdx.x] = later[threadIdx.x];
}

// Whether some query of a tile attends to some key of one: sees it, or sees none at all.
template <typename T>
__device__ bool attends(const BackwardCall<T>& call, const TilePlace& place, int tile, int tiles) {
  if (call.sees_nothing[place.sequence * tiles + tile] != 0) return true;
  return call.in.first_key(place.query) < place.key + place.key_count &&
         call.in.keys_end(place.query + place.query_count) > place.key;
}

// A block computes dk and dv of kTile keys of a head of keys, with 8 kTile^2 width operations for a
// tile of queries. Elements of k's shape move as k, v, dk and dv once, those of q and dout once a
// key tile (as a rule from the second-level cache).
template <int kSlices, typename T>
__global__ void __launch_bounds__(cuda::kTileThreads, cuda::tile_blocks(2 * kSlices))
    key_gradient_tiles(BackwardCall<T> call, T* dk, T* dv) {
  GPU_SHARED(float, a, cuda::kTileFloats);
  GPU_SHARED(float, b, cuda::kTileFloats);
  const AttentionCall<T>& in = call.in;
  const int key_head = blockIdx.y, group = in.heads / in.key_heads;
  const int tiles = (in.queries + kTile - 1) / kTile;
  TilePlace place{blockIdx.z, 0, 0, static_cast<int>(blockIdx.x) * kTile, 0, 0};
  place.key_count = min(kTile, in.keys - place.key);
  const int64_t keys = in.key_offset(place.sequence, place.key, key_head);

  Piece dk_sums[kSlices] = {}, dv_sums[kSlices] = {};
  for (place.head = key_head * group; place.head < (key_head + 1) * group; ++place.head) {
    for (int tile = 0; tile < tiles; ++tile) {
      place.query = tile * kTile;
      place.query_count = min(kTile, in.queries - place.query);
      if (!attends(call, place, tile, tiles)) continue;
      const int64_t queries = in.query_offset(place.sequence, place.query, place.head);
      Piece weights = {}, gradients = {};
      compute_tile<kSlices>(call, place, queries, keys, a, b, weights, gradients);
      __syncthreads();
      cuda::store_piece<false>(weights, a);
      cuda::add_weighted(call.dout + queries, in.query_stride(), place.query_count, in.width,
                         in.packs, a, b, dv_sums);
      __syncthreads();
      cuda::store_piece<false>(gradients, a);
      cuda::add_weighted(in.q + queries, in.query_stride(), place.query_count, in.width, in.packs,
                         a, b, dk_sums);
    }
  }
  const float factor[kPiece] = {in.scale, in.scale, in.scale, in.scale};
  const float one[kPiece] = {1.0f, 1.0f, 1.0f, 1.0f};
  cuda::store_vectors(dk_sums, factor, place.key_count, in.width, in.key_stride(), in.packs,
                      dk + keys);
  cuda::store_vectors(dv_sums, one, place.key_count, in.width, in.key_stride(), in.packs,
                      dv + keys);
}

// A thread a distance of a head and leaf: sums over the leaf's sequences and their query tiles.
// Bytes of an entry of `distances`: 4.
__global__ void __launch_bounds__(cuda::kLoopThreads)
    sum_distances(const float* distances, int distance_row, int tiles, int queries, int keys,
                  const int64_t* leaves, float* dbias) {
  const int entry = blockIdx.x * cuda::kLoopThreads + threadIdx.x;
  const int64_t head = blockIdx.y, heads = gridDim.y, leaf = blockIdx.z;
  if (entry >= queries + keys - 1) return;
  float sum = 0;
  for (int64_t sequence = leaves[leaf]; sequence < leaves[leaf + 1]; ++sequence) {
    const float* of_head = distances + (sequence * heads + head) * tiles * distance_row;
#pragma unroll 4
    for (int tile = 0; tile < tiles; ++tile) {
      const int at = entry - (queries - 1) + tile * kTile + kTile - 1;
      if (at >= 0 && at < distance_row) sum += of_head[int64_t{tile} * distance_row + at];
    }
  }
  dbias[(leaf * heads + head) * (queries + keys - 1) + entry] = sum;
}

}  // namespace

void CudaKernels::attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView out,
                                     TensorView log_sum_exp, TensorView dout, LeafOffsets leaves,
                                     TensorView dq, TensorView dk, TensorView dv,
                                     TensorView ddistance_bias) {
  if (in.q.elements() == 0) {
    for (const TensorView gradient : {dk, dv, ddistance_bias}) {
      if (gradient.elements() > 0) fill_zero(ctx, gradient);
    }
    return;
  }
  const ScratchScope scope(ctx.scratch);
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const auto batch = static_cast<unsigned>(in.q.shape()[0]);
  const float* lse = log_sum_exp.data<float>();
  cuda::with_type(in.q.dtype(), [&]<typename T>() {
    AttentionCall<T> call = cuda::attention_call<T>(in);
    for (const TensorView x : {dout, dq, dk, dv}) {
      call.packs = call.packs && cuda::fits_vectors(x.data<T>(), call.width);
    }
    const unsigned tiles = cuda::blocks_for(call.queries, kTile);
    const auto heads = static_cast<unsigned>(call.heads);
    const int64_t rows = int64_t{batch} * call.queries * call.heads;
    float* delta = ctx.scratch.allocate(DType::kFloat32, {rows}).data<float>();
    int* sees_nothing = ctx.scratch.allocate(DType::kInt32, {batch, tiles}).data<int32_t>();
    gpu_launch(dot_with_out<T>, cuda::blocks_for(rows, kRowWarps), kRowWarps * kWarpLanes, 0,
               stream, call, out.data<T>(), dout.data<T>(), rows, delta);
    gpu_launch(find_queries_without_keys, dim3(tiles, batch), kWarpLanes, 0, stream, lse,
               call.heads, call.queries, sees_nothing);

    const auto distance_row = static_cast<int>(cuda::ceil_div(call.keys, kTile) + 1) * kTile;
    float* distances = nullptr;
    if (!ddistance_bias.absent()) {
      const TensorView sums =
          ctx.scratch.allocate(DType::kFloat32, {batch, heads, tiles, distance_row});
      fill_zero(ctx, sums);
      distances = sums.data<float>();
    }
    const BackwardCall<T> backward{call, dout.data<T>(), lse, delta, sees_nothing};
    cuda::with_slices(call.width, [&]<int kSlices>() {
      gpu_launch(query_gradient_tiles<kSlices, T>, dim3(tiles, heads, batch), cuda::kTileThreads, 0,
                 stream, backward, dq.data<T>(), distances, distance_row);
      const dim3 key_grid(cuda::blocks_for(call.keys, kTile), static_cast<unsigned>(call.key_heads),
                          batch);
      gpu_launch(key_gradient_tiles<kSlices, T>, key_grid, cuda::kTileThreads, 0, stream, backward,
                 dk.data<T>(), dv.data<T>());
    });
    if (distances == nullptr) return;
    const int64_t entries = int64_t{call.queries} + call.keys - 1;
    const dim3 grid(cuda::blocks_for(entries, cuda::kLoopThreads), heads,
                    static_cast<unsigned>(leaves.size() - 1));
    gpu_launch(sum_distances, grid, cuda::kLoopThreads, 0, stream, distances, distance_row,
               static_cast<int>(tiles), call.queries, call.keys, cuda::to_device(ctx, leaves).data,
               ddistance_bias.data<float>());
  });
}

}  // namespace switchyard
