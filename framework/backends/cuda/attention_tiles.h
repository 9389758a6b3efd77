// What attention's forward and backward kernels share: tiles of kTile queries by kTile keys, whose
// matrix products are done from shared memory with a 4 by 4 piece of the result in the registers of
// each thread. Scores exist only there. Key tiles begin at fixed positions, and one of which a
// query sees nothing leaves its sums as they are: its result doesn't depend on other queries, nor
// on keys that it doesn't see. For the .cu files of this folder.
#pragma once

#include "backends/cuda/float_packs.h"
#include "ops/attention.h"

namespace switchyard::cuda {

inline constexpr int kTile = 64;
inline constexpr int kTileThreads = 256;
inline constexpr int kPiece = 4;           // rows and columns of a tile in a thread's registers
inline constexpr int kStride = kTile + 4;  // floats from row to row: rows begin in other banks
inline constexpr int kTileFloats = kTile * kStride;
inline constexpr int64_t kWidestHead = 4 * kTile;

// Blocks that a multiprocessor has registers for, where each thread keeps `pieces` pieces of
// results.
__host__ __device__ constexpr int tile_blocks(int pieces) { return pieces <= 2 ? 2 : 1; }

// A thread's share of a tile, the first row and column of it in the tile.
using Piece = float[kPiece][kPiece];
__device__ inline int piece_row() { return threadIdx.x / (kTile / kPiece) * kPiece; }
__device__ inline int piece_column() { return threadIdx.x % (kTile / kPiece) * kPiece; }

// One call's inputs. A head's vectors lie `heads * width` elements apart.
template <typename T>
struct AttentionCall {
  const T *q, *k, *v;
  const float* bias;                           // null: none
  const int32_t *key_segment, *query_segment;  // null: none
  const int64_t* token;                        // null: no dropout
  RandomKey key;
  int queries, keys, heads, key_heads, width;
  int query_start, window;  // 0: no window
  bool causal, packs;       // 16 bytes of a vector may be read at once
  float scale, dropout_rate, dropout_factor;

  __device__ int64_t query_stride() const { return int64_t{heads} * width; }
  __device__ int64_t key_stride() const { return int64_t{key_heads} * width; }
  // Elements before the vector of a query, or of a key (of a head of keys), in its tensor.
  __device__ int64_t query_offset(int64_t sequence, int i, int head) const {
    return (sequence * queries + i) * query_stride() + int64_t{head} * width;
  }
  __device__ int64_t key_offset(int64_t sequence, int j, int key_head) const {
    return (sequence * keys + j) * key_stride() + int64_t{key_head} * width;
  }
  __device__ int key_head_of(int head) const { return head / (heads / key_heads); }
  // The keys [first_key, keys_end) that causality and window let queries [begin, end) see.
  __device__ int first_key(int begin) const {
    return window > 0 ? max(0, query_start + begin - window + 1) : 0;
  }
  __device__ int keys_end(int end) const { return causal ? min(keys, query_start + end) : keys; }
  __device__ bool in_reach(int i, int j) const {
    const int position = query_start + i;
    return j < keys && (!causal || j <= position) && (window == 0 || j > position - window);
  }
};

// A tile of scores: `query_count` queries of a head from `query` on, `key_count` keys from `key`
// on.
struct TilePlace {
  int64_t sequence;
  int head, query, key;
  int query_count, key_count;
};

// Writes `columns` elements of each of `rows` vectors to a tile, as tile[row][column], or with
// kTransposed as tile[column][row]; zeros where there are none. A warp reads 64 consecutive bytes
// of each of 8 vectors at a time.
template <bool kTransposed, typename T>
__device__ inline void load_tile(const T* vectors, int64_t stride, int rows, int columns,
                                 bool packs, float* tile) {
  constexpr int N = kVectorElements<T>;
  constexpr int kWarpRows = 8, kWarpPacks = kWarpLanes / kWarpRows;
  constexpr int kSteps = kTile / N / kWarpPacks;
  const int lane = threadIdx.x % kWarpLanes;
  const int row = threadIdx.x / kWarpLanes * kWarpRows + lane % kWarpRows;
  const int first = lane / kWarpRows * N;
  const T* from = vectors + row * stride;
  Pack<T, N> read[kSteps] = {};
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int column = first + step * kWarpPacks * N;
    if (row >= rows || column >= columns) continue;
    if (packs) {
      read[step] = *reinterpret_cast<const Pack<T, N>*>(from + column);
    } else {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if (column + k < columns) read[step].values[k] = from[column + k];
      }
    }
  }
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int column = first + step * kWarpPacks * N;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      tile[kTransposed ? (column + k) * kStride + row : row * kStride + column + k] =
          to_float(read[step].values[k]);
    }
  }
}

// piece += a^T b: sums over `steps` rows of both tiles.
__device__ inline void add_product(const float* a, const float* b, int steps, Piece& piece) {
  a += piece_row();
  b += piece_column();
#pragma unroll 4
  for (int k = 0; k < steps; ++k) {
    float x[kPiece], y[kPiece];
    load_floats<kPiece>(a + k * kStride, x);
    load_floats<kPiece>(b + k * kStride, y);
#pragma unroll
    for (int r = 0; r < kPiece; ++r) {
#pragma unroll
      for (int c = 0; c < kPiece; ++c) piece[r][c] += x[r] * y[c];
    }
  }
}

// Products of the vectors of a tile's rows with those of its columns, kTile elements at a time, by
// way of two tiles of shared memory. Barriers inside, one before the tiles are written.
template <int kSlices, typename T>
__device__ inline void dot_products(const AttentionCall<T>& call, const T* rows, int row_count,
                                    const T* columns, int column_count, float* a, float* b,
                                    Piece& piece) {
#pragma unroll 1
  for (int slice = 0; slice < kSlices; ++slice) {
    const int first = slice * kTile, width = min(kTile, call.width - first);
    __syncthreads();
    // One after the other: both at once would take too many registers.
#pragma unroll 1
    for (int side = 0; side < 2; ++side) {
      const bool of_rows = side == 0;
      load_tile<true>((of_rows ? rows : columns) + first,
                      of_rows ? call.query_stride() : call.key_stride(),
                      of_rows ? row_count : column_count, width, call.packs, of_rows ? a : b);
    }
    __syncthreads();
    add_product(a, b, width, piece);
  }
}

// sums[slice] += a^T vectors: a's rows belong to the `count` vectors, which pass through tile b.
// The caller's barrier stands before both tiles are written; barriers inside before they are read.
template <int kSlices, typename T>
__device__ inline void add_weighted(const T* vectors, int64_t stride, int count, int width,
                                    bool packs, const float* a, float* b, Piece (&sums)[kSlices]) {
#pragma unroll
  for (int slice = 0; slice < kSlices; ++slice) {
    const int first = slice * kTile;
    if (slice > 0) __syncthreads();
    load_tile<false>(vectors + first, stride, count, min(kTile, width - first), packs, b);
    __syncthreads();
    add_product(a, b, kTile, sums[slice]);
  }
}

// Writes a piece to a tile, as tile[row][column], or transposed.
template <bool kTransposed>
__device__ inline void store_piece(const Piece& piece, float* tile) {
  const int row = piece_row(), column = piece_column();
#pragma unroll
  for (int k = 0; k < kPiece; ++k) {
    float line[kPiece];
#pragma unroll
    for (int i = 0; i < kPiece; ++i) line[i] = kTransposed ? piece[i][k] : piece[k][i];
    store_floats<kPiece>(
        tile + (kTransposed ? (column + k) * kStride + row : (row + k) * kStride + column), line);
  }
}

// Writes factor[row] * sums to the vectors of a tile's rows, the first of `count` at `vectors`.
template <int kSlices, typename T>
__device__ inline void store_vectors(const Piece (&sums)[kSlices], const float (&factor)[kPiece],
                                     int count, int width, int64_t stride, bool packs, T* vectors) {
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
    const int row = piece_row() + r;
    if (row >= count) continue;
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      const int column = slice * kTile + piece_column();
      float line[kPiece];
#pragma unroll
      for (int c = 0; c < kPiece; ++c) line[c] = factor[r] * sums[slice][r][c];
      T* to = vectors + row * stride + column;
      if (packs && column < width) {
        store_floats<kPiece>(to, line);
      } else {
#pragma unroll
        for (int c = 0; c < kPiece; ++c) {
          if (column + c < width) to[c] = from_float<T>(line[c]);
        }
      }
    }
  }
}

// Turns dot products into scores: -infinity for keys that the query doesn't see.
template <typename T>
__device__ inline void finish_scores(const AttentionCall<T>& call, const TilePlace& place,
                                     Piece& scores) {
  const int i0 = place.query + piece_row(), j0 = place.key + piece_column();
  const int64_t sequence = place.sequence;
  int key_segment[kPiece], query_segment[kPiece] = {};
#pragma unroll
  for (int c = 0; c < kPiece; ++c) {
    const bool given = call.key_segment != nullptr && j0 + c < call.keys;
    key_segment[c] = given ? call.key_segment[sequence * call.keys + j0 + c] : 1;
  }
  if (call.query_segment != nullptr) {
#pragma unroll
    for (int r = 0; r < kPiece; ++r) {
      if (i0 + r < call.queries) {
        query_segment[r] = call.query_segment[sequence * call.queries + i0 + r];
      }
    }
  }
  constexpr int kDistances = 2 * kPiece - 1;  // in a piece; entry c - r + kPiece - 1
  float bias[kDistances] = {};
  if (call.bias != nullptr) {
    const int distances = call.queries + call.keys - 1;
    const float* of_head = call.bias + int64_t{place.head} * distances;
#pragma unroll
    for (int d = 0; d < kDistances; ++d) {
      const int entry = j0 - i0 + d - (kPiece - 1) + call.queries - 1;
      if (entry >= 0 && entry < distances) bias[d] = of_head[entry];
    }
  }
#pragma unroll
  for (int r = 0; r < kPiece; ++r) {
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      const bool sees = i0 + r < call.queries && call.in_reach(i0 + r, j0 + c) &&
                        key_segment[c] != 0 &&
                        (call.query_segment == nullptr || key_segment[c] == query_segment[r]);
      scores[r][c] = sees ? call.scale * scores[r][c] + bias[c - r + kPiece - 1] : -INFINITY;
    }
  }
}

// Which weights of a piece dropout sets to 0: bit r * kPiece + c. The columns of a piece are the
// four of one Philox block.
template <typename T>
__device__ inline uint32_t dropped_weights(const AttentionCall<T>& call, const TilePlace& place) {
  uint32_t dropped = 0;
  if (call.token == nullptr) return dropped;
#pragma unroll 1  // all rows at once would take too many registers
  for (int r = 0; r < kPiece; ++r) {
    const int i = min(place.query + piece_row() + r, call.queries - 1);
    const int64_t token = call.token[place.sequence * call.queries + i];
    const PhiloxBits bits =
        random_block(call.key, static_cast<uint32_t>(token), static_cast<uint32_t>(place.head),
                     static_cast<uint32_t>(place.key + piece_column()) / kPiece);
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      const bool drops = uniform_from_word(bits.word[c]) < call.dropout_rate;
      dropped |= (drops ? 1u : 0u) << (r * kPiece + c);
    }
  }
  return dropped;
}
__device__ inline bool holds(uint32_t bits, int r, int c) {
  return (bits >> (r * kPiece + c) & 1u) != 0;
}

// Over the threads that share a row of the tile: half a warp.
__device__ inline float row_max(float x) {
#pragma unroll
  for (int offset = kTile / kPiece / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  }
  return x;
}
__device__ inline float row_sum(float x) {
#pragma unroll
  for (int offset = kTile / kPiece / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, offset);
  }
  return x;
}

// The log-sum-exp of a query that sees no key and attends to all of them alike.
inline constexpr float kSeesNothing = -std::numeric_limits<float>::max();

template <typename T>
AttentionCall<T> attention_call(const AttentionInput& in) {
  const Shape &q = in.q.shape(), &k = in.k.shape();
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  SWITCHYARD_CHECK(q[3] <= kWidestHead, "attention on CUDA: heads of ", q[3], " features; at most ",
                   kWidestHead);
  SWITCHYARD_CHECK(q[1] + k[1] + in.mask.query_start < kMost - 2 * kTile, "attention: ", q[1],
                   " queries from ", in.mask.query_start, " and ", k[1], " keys");
  const auto segments = [](TensorView x) { return x.absent() ? nullptr : x.data<int32_t>(); };
  const bool drops = in.dropout_rate > 0;
  return {
      .q = in.q.data<T>(),
      .k = in.k.data<T>(),
      .v = in.v.data<T>(),
      .bias = in.distance_bias.absent() ? nullptr : in.distance_bias.data<float>(),
      .key_segment = segments(in.mask.key_segment),
      .query_segment = segments(in.mask.query_segment),
      .token = drops ? in.random.token.data<int64_t>() : nullptr,
      .key = in.random.key,
      .queries = static_cast<int>(q[1]),
      .keys = static_cast<int>(k[1]),
      .heads = static_cast<int>(q[2]),
      .key_heads = static_cast<int>(k[2]),
      .width = static_cast<int>(q[3]),
      .query_start = static_cast<int>(in.mask.query_start),
      .window = static_cast<int>(std::min(in.mask.window, kMost)),
      .causal = in.mask.causal,
      .packs = fits_vectors(in.q.data<T>(), q[3]) && fits_vectors(in.k.data<T>(), q[3]) &&
               fits_vectors(in.v.data<T>(), q[3]),
      .scale = static_cast<float>(in.scale),
      .dropout_rate = static_cast<float>(in.dropout_rate),
      .dropout_factor = static_cast<float>(1.0 / (1.0 - in.dropout_rate)),
  };
}

// Calls body.operator()<kSlices>() for heads of this width.
template <typename Body>
void with_slices(int width, Body&& body) {
  if (width <= kTile) return body.template operator()<1>();
  if (width <= 2 * kTile) return body.template operator()<2>();
  body.template operator()<4>();
}

}  // namespace switchyard::cuda
