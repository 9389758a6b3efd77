// Maxima of floating-point numbers as maxima of integers. NCCL's own forget a NaN, and may differ
// in the sign of a zero.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor_view.h"

namespace switchyard::cuda {

// Replaces float32 or float64 numbers in place by integers of the same size whose order is theirs;
// a NaN becomes the largest.
void to_max_keys(TensorView x, cudaStream_t stream);
// The reverse.
void from_max_keys(TensorView x, cudaStream_t stream);

}  // namespace switchyard::cuda
