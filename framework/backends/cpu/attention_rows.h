// How the CPU backend cuts attention into blocks that stay in a core's second-level cache. A row is
// one query of one of the heads that a key head serves; rows are taken in tiles of as many as the
// row products' register tile, keys in blocks that begin at multiples of kKeyBlock: a row's result
// depends on no other row, nor on how many keys there are beside those it sees. For the .cpp files
// of this folder.
#pragma once

#include <algorithm>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/loop_random.h"
#include "ops/attention.h"

namespace switchyard::cpu {

// A multiple of every instruction set's tile_rows and tile_columns.
inline constexpr int64_t kKeyBlock = 288;
// Rows of scores stand this far apart: an odd number of cache lines, so that columns, too, spread
// over a first-level cache.
inline constexpr int64_t kScoreStride = kKeyBlock + 16;
// Most tiles of rows that share packed keys, and rows of a tile.
inline constexpr int64_t kMostTiles = 22, kMostTileRows = 12;

inline int64_t rounded_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Hands out parts of a buffer, each beginning at a cache line; without a buffer it counts them.
class Floats {
 public:
  explicit Floats(float* begin) : begin_(begin) {}
  float* take(int64_t floats) {
    float* part = begin_ == nullptr ? nullptr : begin_ + taken_;
    taken_ += rounded_up(floats, 16);
    return part;
  }
  int64_t taken() const { return taken_; }

 private:
  float* begin_;
  int64_t taken_ = 0;
};

// Room for dropout's random numbers of one row, which come by the 64.
inline constexpr int64_t kUniformNumbers = (kKeyBlock + 63) / 64 * 64;

// c (+)= a times a packed panel, all of whose columns count. Panels stand in the cache already:
// none is fetched ahead.
inline void multiply_tile(const VectorLoops& loops, const float* a, int64_t a_stride, int64_t rows,
                          const float* panel, int64_t depth, float* c, int64_t c_stride,
                          bool accumulate) {
  loops.product(a, a_stride, rows, panel, depth, panel, c, c_stride, loops.tile_columns,
                accumulate);
}

// A range of keys, empty where end <= begin.
struct KeyRange {
  int64_t begin = 0, end = 0;

  void include(const KeyRange& other) {
    begin = std::min(begin, other.begin);
    end = std::max(end, other.end);
  }
};

// A query of a head, and what it sees: the range has all of it and may have more where segments are
// mixed.
struct AttentionRow {
  int64_t head = 0, query = 0;
  KeyRange keys = {};
  int32_t wanted = 0;
  bool sees_nothing = false;  // then the range is all keys
};

// A call's shapes and inputs.
template <typename T>
class AttentionRows {
 public:
  //   tiles  at most that many share packed keys
  AttentionRows(const AttentionInput& in, const VectorLoops& loops, int64_t tiles)
      : in_(in),
        loops_(loops),
        batch(in.q.shape()[0]),
        queries(in.q.shape()[1]),
        keys(in.k.shape()[1]),
        heads(in.q.shape()[2]),
        key_heads(in.k.shape()[2]),
        width(in.q.shape()[3]),
        distances(queries + keys - 1),
        rows(heads / key_heads * queries),
        blocks((rows + tiles * loops.tile_rows - 1) / (tiles * loops.tile_rows)),
        block_rows(rounded_up((rows + blocks - 1) / blocks, loops.tile_rows)),
        padded_width(rounded_up(width, loops.tile_columns)) {
    SWITCHYARD_CHECK(loops.tile_rows <= kMostTileRows && kKeyBlock % loops.tile_rows == 0 &&
                         kKeyBlock % loops.tile_columns == 0,
                     "key blocks of ", kKeyBlock, " and tiles of ", loops.tile_rows, " x ",
                     loops.tile_columns);
  }

  int64_t key_stride() const { return key_heads * width; }
  bool has_dropout() const { return in_.dropout_rate > 0; }

  // The vector of a row in a tensor shaped as q, of key 0 in one shaped as k and v.
  T* of_row(TensorView x, int64_t b, const AttentionRow& row) const {
    return x.data<T>() + ((b * queries + row.query) * heads + row.head) * width;
  }
  T* of_keys(TensorView x, int64_t b, int64_t key_head) const {
    return x.data<T>() + (b * keys * key_heads + key_head) * width;
  }
  // Entry of a row in a tensor [B, H, Sq].
  int64_t entry(int64_t b, const AttentionRow& row) const {
    return (b * heads + row.head) * queries + row.query;
  }
  // Of (row, key 0) in a tensor of [.., H, Sq + Sk - 1].
  int64_t distance(const AttentionRow& row) const {
    return row.head * distances + queries - 1 - row.query;
  }

  AttentionRow row(int64_t b, int64_t head, int64_t query) const {
    const AttentionMask& mask = in_.mask;
    const int64_t position = mask.query_start + query;
    AttentionRow row{head, query, {0, keys}};
    int64_t &begin = row.keys.begin, &end = row.keys.end;
    if (mask.causal) end = std::min(keys, position + 1);
    if (mask.window > 0) begin = std::clamp<int64_t>(position - mask.window + 1, 0, keys);
    if (!mask.key_segment.absent()) {
      const int32_t* segment = mask.key_segment.data<int32_t>() + b * keys;
      const bool any = mask.query_segment.absent();
      if (!any) row.wanted = mask.query_segment.data<int32_t>()[b * queries + query];
      const auto fits = [&](int64_t key) {
        return segment[key] != 0 && (any || segment[key] == row.wanted);
      };
      while (begin < end && !fits(begin)) ++begin;
      while (begin < end && !fits(end - 1)) --end;
    }
    row.sees_nothing = begin >= end;
    if (row.sees_nothing) row.keys = {0, keys};
    return row;
  }

  // For the keys [first, first + n) of a row.
  LoopScores scores(int64_t b, const AttentionRow& row, int64_t first, int64_t n) const {
    const AttentionMask& mask = in_.mask;
    LoopScores scores{static_cast<float>(in_.scale), nullptr, {}};
    if (!in_.distance_bias.absent()) {
      scores.bias = in_.distance_bias.data<float>() + distance(row) + first;
    }
    scores.visible = {nullptr,
                      !mask.query_segment.absent(),
                      row.wanted,
                      row.sees_nothing,
                      std::clamp<int64_t>(row.keys.begin - first, 0, n),
                      std::clamp<int64_t>(row.keys.end - first, 0, n)};
    if (!mask.key_segment.absent()) {
      scores.visible.segment = mask.key_segment.data<int32_t>() + b * keys + first;
    }
    return scores;
  }

  float dropout_rate() const { return static_cast<float>(in_.dropout_rate); }
  float dropout_keep() const { return static_cast<float>(1.0 / (1.0 - in_.dropout_rate)); }
  // Dropout's random numbers of a row's keys [first, first + n); first is a multiple of 4.
  // `uniform` has room for n rounded up to 64.
  void random(int64_t b, const AttentionRow& row, int64_t first, int64_t n, float* uniform) const {
    LoopRandom random =
        loop_random(in_.random.key, in_.random.token.data<int64_t>()[b * queries + row.query],
                    static_cast<uint32_t>(row.head));
    random.first_block = static_cast<uint32_t>(first / 4);
    loops_.uniform(&random, n, uniform);
  }

  // Key vectors [first, first + n) as floats where they stand, or widened into `buffer`.
  Matrix key_rows(TensorView x, int64_t b, int64_t key_head, int64_t first, int64_t n,
                  float* buffer) const {
    return as_floats(loops_, of_keys(x, b, key_head) + first * key_stride(), key_stride(), n, width,
                     buffer);
  }
  // A matrix [n, width] as panels: of its rows for products along n, or of its columns for products
  // along the width.
  void pack_rows(const Matrix& x, int64_t n, float* panels) const {
    const int64_t tile = loops_.tile_columns;
    for (int64_t c = 0; c < width; c += tile) {
      loops_.pack_panel(x.data + c, n, x.stride, std::min(tile, width - c), 1, panels + c * n);
    }
  }
  void pack_columns(const Matrix& x, int64_t n, float* panels) const {
    const int64_t tile = loops_.tile_columns;
    for (int64_t c = 0; c < n; c += tile) {
      loops_.pack_panel(x.data + c * x.stride, width, 1, std::min(tile, n - c), x.stride,
                        panels + c * width);
    }
  }

 private:
  const AttentionInput& in_;
  const VectorLoops& loops_;

 public:
  const int64_t batch, queries, keys, heads, key_heads, width, distances;
  const int64_t rows;          // of a key head
  const int64_t blocks;        // of rows that share packed keys
  const int64_t block_rows;    // of each but the last, a multiple of tile_rows
  const int64_t padded_width;  // to whole panels
};

// Rows of one key head that are computed together, and what each of them and each tile sees.
template <typename T>
class RowBlock {
 public:
  //   first  of the key head's rows
  RowBlock(const AttentionRows<T>& at, const VectorLoops& loops, int64_t sequence,
           int64_t of_key_head, int64_t first)
      : b(sequence),
        key_head(of_key_head),
        rows(std::min(at.block_rows, at.rows - first)),
        at_(at),
        loops_(loops) {
    int64_t head = key_head * (at.heads / at.key_heads) + first / at.queries;
    int64_t query = first % at.queries;
    for (int64_t row = 0, tile = -1, left = 0; row < rows; ++row, --left) {
      rows_[row] = at.row(b, head, query);
      if (left == 0) {
        left = loops.tile_rows;
        tiles_[++tile] = rows_[row].keys;
      }
      tiles_[tile].include(rows_[row].keys);
      if (++query == at.queries) {
        query = 0;
        ++head;
      }
    }
    all_ = tiles_[0];
    for (int64_t tile = 1; tile < tiles(); ++tile) all_.include(tiles_[tile]);
  }

  const AttentionRow& operator[](int64_t row) const { return rows_[row]; }
  int64_t tiles() const { return (rows + loops_.tile_rows - 1) / loops_.tile_rows; }
  int64_t first_of(int64_t tile) const { return tile * loops_.tile_rows; }
  int64_t end_of(int64_t tile) const { return std::min(rows, (tile + 1) * loops_.tile_rows); }
  // Where blocks of keys begin that some row sees.
  int64_t first_key_block() const { return all_.begin / kKeyBlock * kKeyBlock; }
  int64_t keys_end() const { return all_.end; }
  // What a tile sees of the n keys from `first_key` on, counted from there, from whole panels on.
  KeyRange within(int64_t tile, int64_t first_key, int64_t n) const {
    const int64_t begin = std::max<int64_t>(tiles_[tile].begin - first_key, 0);
    return {begin & -loops_.tile_columns, std::min(tiles_[tile].end - first_key, n)};
  }
  // The rows' vectors side by side as floats, [rows, width].
  void load(TensorView x, float* to) const {
    for (int64_t row = 0; row < rows; ++row, to += at_.width) {
      const float* vector = cpu::load(loops_, at_.width, at_.of_row(x, b, rows_[row]), to);
      if (vector != to) std::copy_n(vector, at_.width, to);
    }
  }

  const int64_t b, key_head, rows;

 private:
  const AttentionRows<T>& at_;
  const VectorLoops& loops_;
  AttentionRow rows_[kMostTiles * kMostTileRows];
  KeyRange tiles_[kMostTiles], all_;
};

}  // namespace switchyard::cpu
