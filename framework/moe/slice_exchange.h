// What the T ranks that hold slices of the same experts do for each other: each gathers the
// received rows of all of them, computes with its slice of the inner width, and the partial results
// are summed back to the rank that received the row. Forward and backward use the same two moves.
#pragma once

#include "base/reused_memory.h"
#include "layers/layer_context.h"
#include "ops/grouped_mat_mul.h"

namespace switchyard {

// The rows of all T ranks as one call of the experts. Gathered rows stand by rank, each rank's as
// it received them; in compact order an expert's rows are by rank, then as that rank has them.
struct SlicePlan {
  ReusedVector<int64_t> rows_of_rank;  // by rank of Groups::tensor
  ReusedVector<int64_t> offsets;       // [L + 1], see RaggedRows
  TensorView index;                    // int32 [rows], see RaggedRows
  TensorView keys;                     // int64 [rows], compact order; absent without row_keys

  // Without boundaries of leaves: sums over slices are never ordered.
  RaggedRows ragged() const;
  int64_t rows() const { return offsets.back(); }
};

class SliceExchange {
 public:
  //   layer  names the layer in errors
  explicit SliceExchange(uint16_t layer) : layer_(layer) {}

  // Tells the ranks of Groups::tensor each other's rows; all of them call it. The plan's
  // tensors stand in `arena`. Throws RankError where they are not at the same layer and step.
  //   rows      of this rank
  //   row_keys  int64 [rows], compact order; absent on all ranks or on none
  SlicePlan agree(LayerContext& ctx, const RaggedRows& rows, TensorView row_keys,
                  Arena& arena) const;

  //   x        [this rank's rows, D]
  //   returns  [plan.rows(), D] in `arena`
  TensorView gather(LayerContext& ctx, const SlicePlan& plan, TensorView x, Arena& arena) const;

  // Adds up the ranks' parts of the results, in the accurate dtype; bfloat16 is rounded once.
  //   partial  [plan.rows(), D]; left unspecified
  //   sum      [this rank's rows, D]
  void sum(LayerContext& ctx, const SlicePlan& plan, TensorView partial, TensorView sum) const;

 private:
  ReusedVector<int64_t> agree_on_rows(LayerContext& ctx, int64_t rows) const;

  uint16_t layer_;
};

}  // namespace switchyard
