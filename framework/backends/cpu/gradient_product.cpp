#include "backends/cpu/gradient_product.h"

#include <algorithm>

#include "backends/cpu/activation_rows.h"

namespace switchyard::cpu {
namespace {

// Columns of a block: with kDepthBlock rows of x they stay in a core's second-level cache.
constexpr int64_t kMostColumns = 768;

// Rows of a block that are packed at a time; a multiple of every tile's rows.
constexpr int64_t kLeftRows = 96;

// Tokens that tiles take at a time; whole steps.
constexpr int64_t kTiledDepthBlock = 512;

// A gradient of so many elements is larger than the cores' caches: 8 MiB.
constexpr int64_t kStreamedElements = int64_t{1} << 21;

// A block whose partial and 64-bit sums stay in a core's second-level cache from one partial to the
// next; rows are whole tiles of every instruction set, or nearly.
constexpr int64_t kOrderedRows = 128, kOrderedColumns = 256;

int64_t rounded_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t parts_of(int64_t count, int64_t part) { return (count + part - 1) / part; }

// body(begin, end) for every block of rows of every leaf of the expert.
template <typename Body>
void over_leaves(const RaggedRows& rows, int64_t expert, int64_t rows_per_block, const Body& body) {
  const LeafOffsets runs = rows.leaf_offsets;
  const int64_t first = rows.offsets[static_cast<size_t>(expert)];
  const int64_t last = rows.offsets[static_cast<size_t>(expert) + 1];
  const auto begin_of = std::lower_bound(runs.begin(), runs.end(), first);
  for (auto run = begin_of; run != runs.end() && *run < last; ++run) {
    for (int64_t row = *run; row < run[1]; row += rows_per_block) {
      body(row, std::min(row + rows_per_block, run[1]));
    }
  }
}

// Row i of the compact order.
template <typename T>
const T* row_of(const T* x, const int32_t* index, int64_t stride, int64_t i) {
  return x + (index == nullptr ? i : index[i]) * stride;
}

}  // namespace

template <typename T>
GradientProducts::Sides GradientProducts::sides(const BlockSize& size, float* buffer) const {
  // Either way of packing takes no more than this for a right side.
  const int64_t depth = by_tiles<T>() ? kTiledDepthBlock / 2 : kDepthBlock;
  return {buffer + depth * rounded_up(size.columns, kTileBlock), buffer};
}

template <typename T>
void GradientProducts::multiply(const GradientProduct<T>& product, const Block& block,
                                int64_t begin, int64_t depth, const Sides& sides, LoopWrite write,
                                float* c, int64_t c_stride) {
  const int64_t tile = loops_.tile_columns;
  float strip[kMostColumns];
  for (int64_t k = 0; k < depth; ++k) {
    const T* x = row_of(product.x, product.x_index, product.in, begin + k) + block.column;
    loops_.spread_columns(block.width, load(loops_, block.width, x, strip), sides.right + k * tile,
                          depth * tile);
  }
  for (int64_t row = 0; row < block.height; row += kLeftRows) {
    const int64_t rows = std::min(kLeftRows, block.height - row);
    for (int64_t k = 0; k < depth; ++k) {
      const T* dy = row_of(product.dy, product.dy_index, product.out, begin + k) + block.row + row;
      loops_.spread_rows(rows, load(loops_, rows, dy, strip), sides.left + k * loops_.tile_rows,
                         depth * loops_.tile_rows);
    }
    for (int64_t column = 0; column < block.width; column += tile) {
      const int64_t columns = std::min(tile, block.width - column);
      loops_.product_of_depths(sides.left, rows, sides.right + column * depth, depth,
                               c + row * c_stride + column, c_stride, columns, write);
    }
  }
}

void GradientProducts::multiply_by_tiles(const GradientProduct<BFloat16>& product,
                                         const Block& block, int64_t begin, int64_t depth,
                                         const Sides& sides, bool accumulate, float* c,
                                         int64_t c_stride) {
  uint16_t* left = reinterpret_cast<uint16_t*>(sides.left);
  uint16_t* right = reinterpret_cast<uint16_t*>(sides.right);
  const auto source = [&](const BFloat16* x, const int32_t* index, int64_t stride) {
    return bits_of(index == nullptr ? x + begin * stride : x);
  };
  const auto from = [&](const int32_t* index) { return index == nullptr ? index : index + begin; };
  tiles_->pack_right(source(product.x, product.x_index, product.in) + block.column, product.in,
                     from(product.x_index), depth, block.width, right);
  const uint16_t* dy = source(product.dy, product.dy_index, product.out) + block.row;
  for (int64_t row = 0; row < block.height; row += kLeftRows) {
    const int64_t rows = std::min(kLeftRows, block.height - row);
    tiles_->pack_transposed(dy + row, product.out, from(product.dy_index), depth, rows, left);
    for (int64_t column = 0; column < block.width; column += kTileBlock) {
      tiles_->product(left, rows, right + column * tile_depth_of(depth), depth,
                      c + row * c_stride + column, c_stride,
                      std::min(kTileBlock, block.width - column), accumulate);
    }
  }
}

// c = or += dy^T x over the rows [begin, end), one block of it.
template <typename T>
void GradientProducts::add_rows(const GradientProduct<T>& product, const Block& block,
                                int64_t begin, int64_t end, const Sides& sides, LoopWrite write,
                                float* c, int64_t c_stride) {
  if (begin == end && write != kLoopAccumulate) {
    for (int64_t i = 0; i < block.height; ++i) std::fill_n(c + i * c_stride, block.width, 0.0f);
  }
  const int64_t most = by_tiles<T>() ? kTiledDepthBlock : kDepthBlock;
  if (end - begin > most && write == kLoopStream) write = kLoopOverwrite;
  for (int64_t row = begin; row < end; row += most, write = kLoopAccumulate) {
    const int64_t depth = std::min(most, end - row);
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (by_tiles<T>()) {
        multiply_by_tiles(product, block, row, depth, sides, write == kLoopAccumulate, c, c_stride);
        continue;
      }
    }
    multiply(product, block, row, depth, sides, write, c, c_stride);
  }
}

// body(block, sides, buffer) for every block of every expert, with a buffer of a block's floats.
template <typename T, typename Body>
void GradientProducts::over_blocks(const GradientProduct<T>& product, BlockSize size,
                                   const Body& body) {
  const int64_t across = parts_of(product.in, size.columns);
  const int64_t blocks = parts_of(product.out, size.rows) * across;
  const int64_t experts = product.rows.experts();
  const int64_t cost =
      product.rows.rows() * size.rows * size.columns / (8 * std::max<int64_t>(experts, 1)) + 1;
  const int64_t side_floats = (by_tiles<T>() ? kTiledDepthBlock / 2 : kDepthBlock) *
                              (rounded_up(size.columns, kTileBlock) + kLeftRows);
  team_.units(experts * blocks, cost, [&](int64_t unit, int thread) {
    Block block{.expert = unit / blocks,
                .row = unit % blocks / across * size.rows,
                .column = unit % blocks % across * size.columns};
    block.height = std::min(size.rows, product.out - block.row);
    block.width = std::min(size.columns, product.in - block.column);
    float* buffer = team_.buffer(thread, side_floats + size.rows * size.columns);
    if (by_tiles<T>()) tiles_->begin();
    body(block, sides<T>(size, buffer), buffer + side_floats);
    if (by_tiles<T>()) tiles_->end();
  });
}

// Large blocks, so that sides are packed seldom; enough of them for the threads.
template <typename T>
GradientProducts::BlockSize GradientProducts::fast_block_size(
    const GradientProduct<T>& product) const {
  const int64_t column_parts = parts_of(product.in, kMostColumns);
  BlockSize size{rounded_up(product.out, kLeftRows),
                 rounded_up(parts_of(product.in, column_parts), kTileBlock)};
  const int64_t wanted = team_.size() == 1 ? 1 : 8 * team_.size();
  const auto count = [&] {
    return product.rows.experts() * parts_of(product.out, size.rows) *
           parts_of(product.in, size.columns);
  };
  while (count() < wanted && size.rows > kLeftRows) {
    size.rows = rounded_up(parts_of(size.rows, 2), kLeftRows);
  }
  while (count() < wanted && size.columns > kTileBlock) {
    size.columns = rounded_up(parts_of(size.columns, 2), kTileBlock);
  }
  return size;
}

template <typename T>
void GradientProducts::sum(const GradientProduct<T>& product, float* gradient, Write write) {
  const bool large = product.rows.experts() * product.out * product.in >= kStreamedElements;
  const LoopWrite overwrite = large ? kLoopStream : kLoopOverwrite;
  const LoopWrite how = write == Write::kAccumulate ? kLoopAccumulate : overwrite;
  over_blocks(
      product, fast_block_size(product), [&](const Block& block, const Sides& sides, float*) {
        const auto expert = static_cast<size_t>(block.expert);
        float* c = gradient + (block.expert * product.out + block.row) * product.in;
        add_rows(product, block, product.rows.offsets[expert], product.rows.offsets[expert + 1],
                 sides, how, c + block.column, product.in);
      });
}

template <typename T>
void GradientProducts::sum_ordered(const GradientProduct<T>& product, int64_t rows_per_block,
                                   OrderedGradient& sums) {
  const int64_t tile_rows = by_tiles<T>() ? kTileBlock : loops_.tile_rows;
  const BlockSize size{kOrderedRows / tile_rows * tile_rows, kOrderedColumns};
  over_blocks(product, size, [&](const Block& block, const Sides& sides, float* partial) {
    over_leaves(product.rows, block.expert, rows_per_block, [&](int64_t begin, int64_t end) {
      add_rows(product, block, begin, end, sides, kLoopOverwrite, partial, block.width);
      for (int64_t i = 0; i < block.height; ++i) {
        sums.add((block.expert * product.out + block.row + i) * product.in + block.column,
                 block.width, partial + i * block.width);
      }
    });
  });
}

template void GradientProducts::sum(const GradientProduct<float>&, float*, Write);
template void GradientProducts::sum(const GradientProduct<BFloat16>&, float*, Write);
template void GradientProducts::sum_ordered(const GradientProduct<float>&, int64_t,
                                            OrderedGradient&);
template void GradientProducts::sum_ordered(const GradientProduct<BFloat16>&, int64_t,
                                            OrderedGradient&);

}  // namespace switchyard::cpu
