// The elements of stored tensors as numbers.
#pragma once

#include <cstddef>

#include "safetensors/header.h"

namespace switchyard {

// Whether float32 holds every number of the type: F32, BF16, F16.
bool fits_float32(StoredType type);
// Exact, NaNs bit by bit.
//   type  one that fits
//   from  `count` elements as they are stored, maybe not aligned
void to_float32(StoredType type, const std::byte* from, size_t count, float* to);

// Whether to_float64 knows the type: floats and integers of 8 to 64 bits, BOOL; not the floats
// below 16 bits and C64.
bool is_number(StoredType type);
// Exact but for integers of more than 53 bits, which are rounded.
void to_float64(StoredType type, const std::byte* from, size_t count, double* to);

}  // namespace switchyard
