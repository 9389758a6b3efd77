// Products of token rows with weights, for one weight or a stack of experts: own kernels, since a
// row's result may not depend on the other rows of the call or on its place among them. (oneDNN's
// does: with AVX2 edge rows are summed in another order, with AVX-512 calls of under 16 rows.)
#pragma once

#include <span>
#include <vector>

#include "backends/cpu/team.h"
#include "backends/cpu/vector_loops.h"
#include "ops/mat_mul.h"

namespace switchyard::cpu {

// One call. Row i of the compact order is row x_index[i] of x where that is given, and so for y.
struct RowProduct {
  const float* x;
  const int32_t* x_index = nullptr;
  const Weight* weight;
  bool transposed = true;            // y = x W^T, else y = x W
  std::span<const int64_t> offsets;  // rows of each expert, [experts + 1]
  float* y;
  const int32_t* y_index = nullptr;
  const float* y_scale = nullptr;  // of rows written through y_index
  Write write = Write::kOverwrite;
  Activation activation = Activation::kNone;
  float* pre_activation = nullptr;  // compact order, or null
};

class RowProducts {
 public:
  RowProducts(Team& team, const VectorLoops& loops) : team_(team), loops_(loops) {}

  void run(const RowProduct& product);

 private:
  // A part that one thread computes: rows of one expert by some of the weight's panels.
  struct Unit {
    int64_t expert, row_begin, row_end;
  };
  struct Call;

  const float* packed_panels(const Weight& weight, bool transposed);
  void compute(const Call& call, const Unit& unit, int64_t panel_begin, int64_t panel_end,
               int thread);
  void finish(const Call& call, const Unit& unit, int64_t column_begin, int64_t column_end,
              const float* result, int64_t result_stride);

  Team& team_;
  const VectorLoops& loops_;
  std::vector<Unit> units_;  // of the current call; kept for its memory
};

}  // namespace switchyard::cpu
