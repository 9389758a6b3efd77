// What follows a product that cuBLAS made: the activation, a factor for every row, and the rows'
// places. For the .cu files of this folder.
#pragma once

#include "backends/cuda/cuda_context.h"
#include "ops/mat_mul.h"

namespace switchyard::cuda {

// y[index[i]] = scale[i] * activation(products[i]); y may be `products` where there is no index.
//   products  [N, columns]; y of its dtype
//   index     int32 [N], or absent: row i is row i
//   scale     float32 [N], or absent
void finish_rows(ExecContext& ctx, TensorView products, Activation activation, TensorView index,
                 TensorView scale, TensorView y);

}  // namespace switchyard::cuda
