// Products of token rows with weights, for one weight or a stack of experts: own kernels, since a
// row's result may not depend on the other rows of the call or on its place among them. (oneDNN's
// does: with AVX2 edge rows are summed in another order, with AVX-512 calls of under 16 rows.)
#pragma once

#include <span>
#include <vector>

#include "backends/cpu/team.h"
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
  RowProducts(Team& team, const VectorLoops& loops) : team_(team), loops_(loops) {}

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
  const T* packed_panels(const Weight& weight, bool transposed);
  template <typename T>
  void compute(const Call<T>& call, const Unit& unit, int64_t panel_begin, int64_t panel_end,
               int thread);
  template <typename T>
  void finish(const Call<T>& call, const Unit& unit, int64_t column_begin, int64_t column_end,
              float* result, int64_t result_stride);

  Team& team_;
  const VectorLoops& loops_;
  std::vector<Unit> units_;  // of the current call; kept for its memory
};

}  // namespace switchyard::cpu
