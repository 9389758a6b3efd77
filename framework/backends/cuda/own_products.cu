#include "backends/cuda/own_products.h"

#include <vector>

#include "backends/cuda/activation_functions.h"
#include "backends/cuda/ordered_gradient.h"

namespace switchyard::cuda {
namespace {

// A block makes a tile of kTile x kTile results from tiles of kDepth steps in shared memory, where
// a step's elements lie side by side. A thread makes 4 x 4 of them.
constexpr int kTile = 64, kDepth = 32, kThreads = 256, kPart = 4;
constexpr int kStride = kTile + kPart;  // of a step: a multiple of 16 bytes, not of all banks
constexpr int kSideThreads = kTile / kPart;

struct alignas(16) Quad {
  float values[kPart];
};

__device__ inline const Quad& quad_at(const float* tile, int step, int first) {
  return *reinterpret_cast<const Quad*>(tile + step * kStride + first);
}

// Reads kVectorElements elements from `from` on; those from `count` on are zero.
template <typename T, bool kVectors>
__device__ inline Vector<T> load_some(const T* from, int64_t count) {
  if constexpr (kVectors) {
    if (count > 0) return load_vector(from);
  }
  Vector<T> some;
#pragma unroll
  for (int i = 0; i < kVectorElements<T>; ++i) {
    some.values[i] = !kVectors && i < count ? from[i] : from_float<T>(0.0f);
  }
  return some;
}

// Fills a tile from rows along the depth: step d of entry r is row_of(r)[first + d], zero from
// `depth` on or where row_of has no row.
template <typename T, bool kVectors, typename RowOf>
__device__ inline void load_turned(float* tile, int64_t first, int64_t depth, RowOf row_of) {
  constexpr int kPerRow = kDepth / kVectorElements<T>;
  for (int v = static_cast<int>(threadIdx.x); v < kTile * kPerRow; v += kThreads) {
    const int entry = v / kPerRow, step = v % kPerRow * kVectorElements<T>;
    const T* row = row_of(entry);
    const int64_t left = depth - first - step;
    const Vector<T> some =
        row == nullptr ? Vector<T>{} : load_some<T, kVectors>(row + first + step, left);
#pragma unroll
    for (int i = 0; i < kVectorElements<T>; ++i) {
      tile[(step + i) * kStride + entry] = to_float(some.values[i]);
    }
  }
}

// Fills a tile from rows across the depth: entry c of step d is row_of(d)[first + c], zero from
// `columns` on or where row_of has no row.
template <typename T, bool kVectors, typename RowOf>
__device__ inline void load_straight(float* tile, int64_t first, int64_t columns, RowOf row_of) {
  constexpr int kPerRow = kTile / kVectorElements<T>;
  for (int v = static_cast<int>(threadIdx.x); v < kDepth * kPerRow; v += kThreads) {
    const int step = v / kPerRow, entry = v % kPerRow * kVectorElements<T>;
    const T* row = row_of(step);
    const int64_t left = columns - first - entry;
    const Vector<T> some =
        row == nullptr ? Vector<T>{} : load_some<T, kVectors>(row + first + entry, left);
#pragma unroll
    for (int i = 0; i < kVectorElements<T>; ++i) {
      tile[step * kStride + entry + i] = to_float(some.values[i]);
    }
  }
}

// sums += left^T right over the steps of two tiles, in order.
__device__ inline void add_tiles(const float* left, const float* right,
                                 float (&sums)[kPart][kPart]) {
  const int row = static_cast<int>(threadIdx.x) / kSideThreads * kPart;
  const int column = static_cast<int>(threadIdx.x) % kSideThreads * kPart;
#pragma unroll 8
  for (int step = 0; step < kDepth; ++step) {
    const Quad a = quad_at(left, step, row), b = quad_at(right, step, column);
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
#pragma unroll
      for (int j = 0; j < kPart; ++j) sums[i][j] = fmaf(a.values[i], b.values[j], sums[i][j]);
    }
  }
}

// Rows of one expert that a block of the grid makes.
struct RowTile {
  int64_t begin;  // in the compact order
  int32_t rows, expert;
};

template <typename T>
struct RowArguments {
  const T* x;
  const int32_t* x_index;
  const T* weight;
  int64_t depth, columns;
  const RowTile* tiles;
  T* y;
  const int32_t* y_index;
  const float* y_scale;
  T* pre_activation;
  Activation activation;
  bool accumulate;
};

template <typename T>
__device__ inline void store_row_results(const RowArguments<T>& a, const RowTile& tile,
                                         int64_t first_column, const float (&sums)[kPart][kPart]) {
  const int first_row = static_cast<int>(threadIdx.x) / kSideThreads * kPart;
  const int64_t column = first_column + static_cast<int>(threadIdx.x) % kSideThreads * kPart;
#pragma unroll
  for (int i = 0; i < kPart; ++i) {
    if (first_row + i >= tile.rows) break;
    const int64_t row = tile.begin + first_row + i;
    const int64_t place = a.y_index == nullptr ? row : a.y_index[row];
    const float factor = a.y_scale == nullptr ? 1.0f : a.y_scale[row];
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      if (column + j >= a.columns) break;
      if (a.pre_activation != nullptr) {
        a.pre_activation[row * a.columns + column + j] = from_float<T>(sums[i][j]);
      }
      T& y = a.y[place * a.columns + column + j];
      const float result = factor * activate(a.activation, sums[i][j]);
      y = from_float<T>(a.accumulate ? to_float(y) + result : result);
    }
  }
}

// Grid: row tiles, column tiles.
template <typename T, bool kTransposed, bool kVectors>
__global__ void __launch_bounds__(kThreads) row_product_kernel(RowArguments<T> a) {
  GPU_SHARED(float, x_tile, kDepth* kStride);
  GPU_SHARED(float, weight_tile, kDepth* kStride);
  const RowTile tile = a.tiles[blockIdx.x];
  const int64_t first_column = static_cast<int64_t>(blockIdx.y) * kTile;
  const T* weight = a.weight + tile.expert * a.depth * a.columns;
  const auto x_row = [&](int entry) -> const T* {
    if (entry >= tile.rows) return nullptr;
    const int64_t row = tile.begin + entry;
    return a.x + (a.x_index == nullptr ? row : a.x_index[row]) * a.depth;
  };
  float sums[kPart][kPart] = {};
  for (int64_t first = 0; first < a.depth; first += kDepth) {
    load_turned<T, kVectors>(x_tile, first, a.depth, x_row);
    if constexpr (kTransposed) {
      load_turned<T, kVectors>(weight_tile, first, a.depth, [&](int entry) -> const T* {
        const int64_t column = first_column + entry;
        return column < a.columns ? weight + column * a.depth : nullptr;
      });
    } else {
      load_straight<T, kVectors>(weight_tile, first_column, a.columns, [&](int step) -> const T* {
        const int64_t row = first + step;
        return row < a.depth ? weight + row * a.columns : nullptr;
      });
    }
    __syncthreads();
    add_tiles(x_tile, weight_tile, sums);
    __syncthreads();
  }
  store_row_results(a, tile, first_column, sums);
}

std::vector<RowTile> row_tiles(std::span<const int64_t> offsets) {
  std::vector<RowTile> tiles;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    for (int64_t begin = offsets[e]; begin < offsets[e + 1]; begin += kTile) {
      const auto rows = static_cast<int32_t>(std::min<int64_t>(kTile, offsets[e + 1] - begin));
      tiles.push_back({begin, rows, static_cast<int32_t>(e)});
    }
  }
  return tiles;
}

template <typename T>
T* optional_data(TensorView x) {
  return x.absent() ? nullptr : x.data<T>();
}

template <typename T>
void launch_row_products(ExecContext& ctx, const RowProduct& product) {
  const std::vector<RowTile> tiles = row_tiles(product.offsets);
  const int64_t depth = product.x.shape()[-1], columns = product.y.shape()[-1];
  const RowArguments<T> arguments{.x = product.x.data<T>(),
                                  .x_index = optional_data<int32_t>(product.x_index),
                                  .weight = product.weight.data<T>(),
                                  .depth = depth,
                                  .columns = columns,
                                  .tiles = to_device<RowTile>(ctx, tiles).data,
                                  .y = product.y.data<T>(),
                                  .y_index = optional_data<int32_t>(product.y_index),
                                  .y_scale = optional_data<float>(product.y_scale),
                                  .pre_activation = optional_data<T>(product.pre_activation),
                                  .activation = product.activation,
                                  .accumulate = product.write == Write::kAccumulate};
  const bool vectors = fits_vectors(arguments.x, depth) &&
                       fits_vectors(arguments.weight, product.transposed ? depth : columns);
  const auto kernel =
      product.transposed
          ? (vectors ? row_product_kernel<T, true, true> : row_product_kernel<T, true, false>)
          : (vectors ? row_product_kernel<T, false, true> : row_product_kernel<T, false, false>);
  gpu_launch(kernel, dim3(static_cast<unsigned>(tiles.size()), blocks_for(columns, kTile)),
             dim3(kThreads), 0, cuda_stream(ctx), arguments);
}

// Rows that make one partial.
struct Segment {
  int64_t begin, end;
};
// Partials of one expert that a block of the grid makes and adds up.
struct SegmentChunk {
  int32_t first, last, expert;  // segments [first, last)
};

template <typename T>
struct GradientArguments {
  const T* x;
  const int32_t* x_index;
  int64_t in;
  const T* dy;
  const int32_t* dy_index;
  int64_t out;
  const Segment* segments;
  const SegmentChunk* chunks;
  OrderedTarget target;
};

// Grid: chunks, tiles of the outputs, tiles of the inputs.
template <typename T, bool kVectors>
__global__ void __launch_bounds__(kThreads) ordered_product_kernel(GradientArguments<T> a) {
  GPU_SHARED(float, dy_tile, kDepth* kStride);
  GPU_SHARED(float, x_tile, kDepth* kStride);
  const SegmentChunk chunk = a.chunks[blockIdx.x];
  const int64_t first_out = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t first_in = static_cast<int64_t>(blockIdx.z) * kTile;
  long long totals[kPart][kPart] = {};
  const int64_t row = first_out + static_cast<int>(threadIdx.x) / kSideThreads * kPart;
  const int64_t column = first_in + static_cast<int>(threadIdx.x) % kSideThreads * kPart;
  int refused = 0;
  for (int32_t s = chunk.first; s < chunk.last; ++s) {
    const Segment segment = a.segments[s];
    float sums[kPart][kPart] = {};
    for (int64_t first = segment.begin; first < segment.end; first += kDepth) {
      const auto row_of = [&](const T* data, const int32_t* index, int64_t columns) {
        return [=](int step) -> const T* {
          const int64_t source = first + step;
          if (source >= segment.end) return nullptr;
          return data + (index == nullptr ? source : index[source]) * columns;
        };
      };
      load_straight<T, kVectors>(dy_tile, first_out, a.out, row_of(a.dy, a.dy_index, a.out));
      load_straight<T, kVectors>(x_tile, first_in, a.in, row_of(a.x, a.x_index, a.in));
      __syncthreads();
      add_tiles(dy_tile, x_tile, sums);
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        // Elsewhere a row's NaN times the zeros beside the tensors would be refused, too.
        if (row + i >= a.out || column + j >= a.in) continue;
        totals[i][j] += ordered_integer(sums[i][j], a.target.limit, refused);
      }
    }
  }
  unsigned long long* sums = a.target.sums + chunk.expert * a.out * a.in;
#pragma unroll
  for (int i = 0; i < kPart; ++i) {
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      if (row + i >= a.out || column + j >= a.in) continue;
      add_to_sums(sums + (row + i) * a.in + column + j, totals[i][j]);
    }
  }
  if (refused != 0) atomicAdd(a.target.refused, static_cast<unsigned long long>(refused));
}

// Every part of at most `rows_per_partial` rows of every run, and the experts' shares of them: many
// rows for a chunk, since each ends in 64-bit additions in memory, but few enough for all
// processors to have some.
struct Segments {
  std::vector<Segment> segments;
  std::vector<SegmentChunk> chunks;
};

Segments cut_into_segments(const OrderedProduct& product) {
  constexpr int64_t kChunkRows = 512;
  Segments cut;
  size_t run = 0;
  for (size_t e = 0; e + 1 < product.offsets.size(); ++e) {
    const int64_t begin = product.offsets[e], end = product.offsets[e + 1];
    int64_t chunk_rows = kChunkRows;  // full: the expert's first segment opens a chunk
    while (run + 2 < product.runs.size() && product.runs[run + 1] <= begin) ++run;
    for (size_t r = run; r + 1 < product.runs.size() && product.runs[r] < end; ++r) {
      const int64_t run_end = std::min(product.runs[r + 1], end);
      for (int64_t row = std::max(product.runs[r], begin); row < run_end;
           row += product.rows_per_partial) {
        const int64_t last = std::min(row + product.rows_per_partial, run_end);
        const auto number = static_cast<int32_t>(cut.segments.size());
        if (chunk_rows >= kChunkRows) {
          cut.chunks.push_back({number, number, static_cast<int32_t>(e)});
          chunk_rows = 0;
        }
        cut.segments.push_back({row, last});
        cut.chunks.back().last = number + 1;
        chunk_rows += last - row;
      }
    }
  }
  return cut;
}

template <typename T>
void launch_ordered_products(ExecContext& ctx, const OrderedProduct& product, Weight& w) {
  const Segments cut = cut_into_segments(product);
  const int64_t in = product.x.shape()[-1], out = product.dy.shape()[-1];
  const GradientArguments<T> arguments{.x = product.x.data<T>(),
                                       .x_index = optional_data<int32_t>(product.x_index),
                                       .in = in,
                                       .dy = product.dy.data<T>(),
                                       .dy_index = optional_data<int32_t>(product.dy_index),
                                       .out = out,
                                       .segments = to_device<Segment>(ctx, cut.segments).data,
                                       .chunks = to_device<SegmentChunk>(ctx, cut.chunks).data,
                                       .target = ordered_target(ctx, w)};
  const bool vectors = fits_vectors(arguments.x, in) && fits_vectors(arguments.dy, out);
  const dim3 grid(static_cast<unsigned>(cut.chunks.size()), blocks_for(out, kTile),
                  blocks_for(in, kTile));
  gpu_launch(vectors ? ordered_product_kernel<T, true> : ordered_product_kernel<T, false>, grid,
             dim3(kThreads), 0, cuda_stream(ctx), arguments);
}

}  // namespace

void multiply_rows(ExecContext& ctx, const RowProduct& product) {
  const ScratchScope scratch(ctx.scratch);
  with_type(product.x.dtype(), [&]<typename T>() { launch_row_products<T>(ctx, product); });
}

void add_ordered_products(ExecContext& ctx, const OrderedProduct& product, Weight& w) {
  const ScratchScope scratch(ctx.scratch);
  with_type(product.x.dtype(), [&]<typename T>() { launch_ordered_products<T>(ctx, product, w); });
}

}  // namespace switchyard::cuda
