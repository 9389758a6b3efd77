// Rows of a matrix shared out among threads: a row to a part of a warp, and indices to the threads
// of a grid.
#pragma once

#include "backends/cuda/cuda_types.h"
#include "tensor/weight.h"

namespace switchyard::cuda {

inline constexpr int kRowThreads = 256;  // of a block

template <typename Real>
inline constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

// As many lanes as a row of so many columns has use for: a power of two, at most a warp.
inline int lanes_for(int64_t columns) {
  int lanes = 1;
  while (lanes < kWarpLanes && lanes < columns) lanes *= 2;
  return lanes;
}

inline unsigned row_blocks(int64_t rows, int lanes) {
  return blocks_for(rows, kRowThreads / lanes);
}

// The lanes that do one row. Lanes without a row have no columns, and take part in reductions.
struct RowTeam {
  int lanes, lane;
  int64_t row, columns;
  bool has_row;

  __device__ RowTeam(int64_t rows, int64_t columns_of_row, int lanes_of_row)
      : lanes(lanes_of_row),
        lane(static_cast<int>(threadIdx.x) % lanes_of_row),
        row(static_cast<int64_t>(blockIdx.x) * (kRowThreads / lanes_of_row) +
            static_cast<int>(threadIdx.x) / lanes_of_row),
        columns(columns_of_row),
        has_row(row < rows) {
    if (has_row) return;
    row = 0;
    columns = 0;
  }

  // The result is every lane's; all lanes of the warp call.
  template <typename T>
  __device__ T sum(T x) const {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      x += __shfl_xor_sync(kAllLanes, x, offset);
    }
    return x;
  }
  template <typename T>
  __device__ T largest(T x) const {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      const T other = __shfl_xor_sync(kAllLanes, x, offset);
      x = other > x ? other : x;
    }
    return x;
  }
  template <typename T>
  __device__ T smallest(T x) const {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      const T other = __shfl_xor_sync(kAllLanes, x, offset);
      x = other < x ? other : x;
    }
    return x;
  }
};

// `kCount` consecutive elements, moved at once where they are 16 bytes.
template <typename T, int kCount>
struct Piece {
  T values[kCount];
};
template <int kCount, typename T>
__device__ inline Piece<T, kCount> load_piece(const T* from) {
  Piece<T, kCount> piece;
  if constexpr (kCount == kVectorElements<T>) {
    const Vector<T> vector = load_vector(from);
#pragma unroll
    for (int i = 0; i < kCount; ++i) piece.values[i] = vector.values[i];
  } else {
    static_assert(kCount == 1);
    piece.values[0] = *from;
  }
  return piece;
}
template <int kCount, typename T>
__device__ inline void store_piece(T* to, const Piece<T, kCount>& piece) {
  if constexpr (kCount == kVectorElements<T>) {
    Vector<T> vector;
#pragma unroll
    for (int i = 0; i < kCount; ++i) vector.values[i] = piece.values[i];
    store_vector(to, vector);
  } else {
    static_assert(kCount == 1);
    *to = piece.values[0];
  }
}

// body.operator()<elements of a piece>(): 16 bytes of T where all the rows allow it, else 1.
template <typename T, typename Body, typename... Rows>
void with_pieces(int64_t columns, const Body& body, const Rows*... rows) {
  if ((fits_vectors<T>(rows, columns) && ...)) {
    body.template operator()<kVectorElements<T>>();
  } else {
    body.template operator()<1>();
  }
}

template <typename Body>
__global__ void each_index_kernel(int64_t count, Body body) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kRowThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x; i < count;
       i += stride) {
    body(i);
  }
}

// body(i) for i in [0, count), in any order.
template <typename Body>
void each_index(const ExecContext& ctx, int64_t count, const Body& body) {
  gpu_launch(each_index_kernel<Body>, striding_blocks(count, kRowThreads), kRowThreads, 0,
             cuda_stream(ctx), count, body);
}

// Sets every byte of a tensor to 0, or to 0xFF: -1 as an integer.
inline void fill_bytes(const ExecContext& ctx, TensorView x, int byte) {
  if (x.size_bytes() == 0) return;
  GPU_CHECK(cudaMemsetAsync(x.raw(), byte, x.size_bytes(), cuda_stream(ctx)));
}

__device__ inline void put(float& place, float value, Write write) {
  place = write == Write::kOverwrite ? value : place + value;
}

// A mask's elements (uint8 [T]), null where it is absent; whether it lets token t in.
inline const uint8_t* mask_of(TensorView mask) {
  return mask.absent() ? nullptr : mask.data<uint8_t>();
}
__device__ inline bool is_in(const uint8_t* mask, int64_t t) {
  return mask == nullptr || mask[t] != 0;
}

}  // namespace switchyard::cuda
