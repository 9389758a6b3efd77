// Products by kernels of our own. A row's result doesn't depend on the other rows of the call,
// which cuBLAS doesn't promise: an element is one float32 sum in the order of its depth. For
// ordered runs, and for shapes that cuBLAS has nothing for. For the .cu files of this folder.
#pragma once

#include "backends/cuda/cuda_context.h"
#include "ops/grouped_mat_mul.h"

namespace switchyard::cuda {

// For every expert e and its rows i: y[y_index[i]] = factor * activation(x[x_index[i]] W_e'), where
// the factor is y_scale[i] and W_e' the expert's weight, transposed or not.
struct RowProduct {
  TensorView x;        // [N or more, depth]
  TensorView x_index;  // int32 [N], or absent: row i is row i
  TensorView weight;   // of x's dtype; transposed: [.., columns, depth], else [.., depth,
                       // columns]
  bool transposed = false;
  std::span<const int64_t> offsets;  // of the rows of every expert
  TensorView y;                      // [N or more, columns]
  TensorView y_index;                // as x_index
  TensorView y_scale;                // float32 [N], or absent
  Activation activation = Activation::kNone;
  TensorView pre_activation;  // [N, columns], or absent
  Write write = Write::kOverwrite;
};

void multiply_rows(ExecContext& ctx, const RowProduct& product);

// dy^T x over the rows of every expert, joined to the weight's ordered sums.
struct OrderedProduct {
  TensorView x, x_index;    // [N or more, in]; int32 [N] or absent
  TensorView dy, dy_index;  // [N or more, out]
  std::span<const int64_t> offsets;
  std::span<const int64_t> runs;  // boundaries of every (expert, leaf) run
  int64_t rows_per_partial = kOrderedBlockRows;
};

void add_ordered_products(ExecContext& ctx, const OrderedProduct& product, Weight& w);

}  // namespace switchyard::cuda
