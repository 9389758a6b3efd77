// Products of token rows with weights, for one weight or a stack of experts: own kernels, since a
// row's result may not depend on the other rows of the call or on its place among them. (oneDNN's
// does: with AVX2 edge rows are summed in another order, with AVX-512 calls of under 16 rows.)
// float32 by vectors; bfloat16 by matrix tiles, or by vectors where there are none.
#pragma once

#include <span>
#include <type_traits>
#include <vector>

#include "backends/cpu/team.h"
#include "backends/cpu/tile_loops.h"
#include "backends/cpu/vector_loops.h"
#include "ops/mat_mul.h"
#include "tensor/bfloat16.h"

namespace switchyard::cpu {

// One call on activations of T (float or BFloat16; products are summed in float32 and rounded when
// they are written). Row i of the compact order is row x_index[i] of x where that is given, and so
// for y.
template <typename T>
struct RowProduct {
  const T* x;
  const int32_t* x_index = nullptr;
  const Weight* weight;
  bool transposed = true;            // y = x W^T, else y = x W
  std::span<const int64_t> offsets;  // rows of each expert, [experts + 1]
  T* y;
  const int32_t* y_index = nullptr;
  const float* y_scale = nullptr;  // of rows written through y_index
  Write write = Write::kOverwrite;
  Activation activation = Activation::kNone;
  T* pre_activation = nullptr;  // compact order, or null
};

class RowProducts {
 public:
  //   tiles  or null
  RowProducts(Team& team, const VectorLoops& loops, const TileLoops* tiles)
      : team_(team), loops_(loops), tiles_(tiles) {}

  template <typename T>
  void run(const RowProduct<T>& product);

 private:
  // A part that one thread computes: rows of one expert by some of the weight's panels.
  struct Unit {
    int64_t expert, row_begin, row_end;
  };
  template <typename T>
  struct Call;

  template <typename T>
  bool by_tiles() const {
    return std::is_same_v<T, BFloat16> && tiles_ != nullptr;
  }
  template <typename T>
  const T* packed_panels(const Weight& weight, bool transposed);
  template <typename T>
  Call<T> prepare(const RowProduct<T>& product);
  template <typename T>
  void compute(const Call<T>& call, const Unit& unit, int64_t panel_begin, int64_t panel_end,
               int thread);
  void compute_by_tiles(const Call<BFloat16>& call, const Unit& unit, int64_t panel_begin,
                        int64_t panel_end, int thread);
  template <typename T>
  void finish(const Call<T>& call, const Unit& unit, int64_t column_begin, int64_t column_end,
              float* result, int64_t result_stride);

  Team& team_;
  const VectorLoops& loops_;
  const TileLoops* tiles_;
  std::vector<Unit> units_;  // of the current call; kept for its memory
};

}  // namespace switchyard::cpu
