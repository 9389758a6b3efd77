// Gradients of weights, dy^T x over the rows of every expert: own kernels, by matrix tiles for
// bfloat16 where there are some, else by vectors in float32. An element's sum is taken in the
// order of its rows; how a gradient is shared out among threads doesn't show in it.
#pragma once

#include <type_traits>

#include "backends/cpu/ordered_gradient.h"
#include "backends/cpu/team.h"
#include "backends/cpu/tile_loops.h"
#include "backends/cpu/vector_loops.h"
#include "ops/grouped_mat_mul.h"
#include "tensor/bfloat16.h"

namespace switchyard::cpu {

// One call on activations of T (float or BFloat16). Row i of the compact order is row x_index[i] of
// x where that is given, and so for dy.
template <typename T>
struct GradientProduct {
  const T* x;  // [N or more, in]
  const int32_t* x_index;
  int64_t in;
  const T* dy;  // [N or more, out]
  const int32_t* dy_index;
  int64_t out;
  const RaggedRows& rows;
};

class GradientProducts {
 public:
  //   tiles  or null
  GradientProducts(Team& team, const VectorLoops& loops, const TileLoops* tiles)
      : team_(team), loops_(loops), tiles_(tiles) {}

  // gradient [experts, out, in] = or += dy^T x.
  template <typename T>
  void sum(const GradientProduct<T>& product, float* gradient, Write write);
  // One partial for every `rows_per_block` rows of a leaf at an expert.
  template <typename T>
  void sum_ordered(const GradientProduct<T>& product, int64_t rows_per_block,
                   OrderedGradient& sums);

 private:
  // Part of a gradient [out, in] of one expert, the work of one unit.
  struct Block {
    int64_t expert, row, column, height, width;
  };
  struct BlockSize {
    int64_t rows, columns;
  };
  // A thread's packed sides of one block of depth.
  struct Sides {
    float *left, *right;
  };

  template <typename T>
  bool by_tiles() const {
    return std::is_same_v<T, BFloat16> && tiles_ != nullptr;
  }
  template <typename T, typename Body>
  void over_blocks(const GradientProduct<T>& product, BlockSize size, const Body& body);
  template <typename T>
  BlockSize fast_block_size(const GradientProduct<T>& product) const;
  template <typename T>
  Sides sides(const BlockSize& size, float* buffer) const;
  template <typename T>
  void add_rows(const GradientProduct<T>& product, const Block& block, int64_t begin, int64_t end,
                const Sides& sides, LoopWrite write, float* c, int64_t c_stride);
  template <typename T>
  void multiply(const GradientProduct<T>& product, const Block& block, int64_t begin, int64_t depth,
                const Sides& sides, LoopWrite write, float* c, int64_t c_stride);
  void multiply_by_tiles(const GradientProduct<BFloat16>& product, const Block& block,
                         int64_t begin, int64_t depth, const Sides& sides, bool accumulate,
                         float* c, int64_t c_stride);

  Team& team_;
  const VectorLoops& loops_;
  const TileLoops* tiles_;
};

}  // namespace switchyard::cpu
