// oneDNN's float32 matrix product, on the calling thread. A result's bits may depend on the number
// of rows and on a row's place among them: products of token rows use row_product.h instead.
#pragma once

#include <cstdint>

namespace switchyard::cpu {

// A row-major matrix in memory, read as it stands or transposed.
struct Matrix {
  const float* data;
  int64_t stride;
  bool transposed = false;
};

// c[m, n] = factor * a[m, k] b[k, n] + keep * c; keep is 0 (c is not read) or 1.
void sgemm(int64_t m, int64_t n, int64_t k, float factor, Matrix a, Matrix b, float keep, float* c,
           int64_t c_stride);

}  // namespace switchyard::cpu
