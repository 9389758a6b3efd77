// Products by cuBLASLt and cuBLAS, as products of row-major matrices: bfloat16 with float32 sums,
// or float32 proper (no TF32).
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include <map>
#include <memory>
#include <span>
#include <tuple>

#include "backends/cuda/cuda_context.h"
#include "ops/mat_mul.h"

namespace switchyard::cuda {

// c [m, n] = a b, or added to c.
struct MatrixProduct {
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;  // [m, k]; transposed: stored [k, m]
  const void* b = nullptr;  // [k, n]; transposed: stored [n, k]
  void* c = nullptr;
  bool a_transposed = false, b_transposed = false;
  DType inputs = DType::kFloat32, output = DType::kFloat32;
  Write write = Write::kOverwrite;
  bool relu = false;  // of the product; multiply_fused alone knows it
};

class ProductLibrary {
 public:
  // Of the calling thread's device.
  ProductLibrary();
  ~ProductLibrary();
  ProductLibrary(const ProductLibrary&) = delete;
  ProductLibrary& operator=(const ProductLibrary&) = delete;

  // By cuBLASLt; false where it has no algorithm, and nothing was done.
  bool multiply_fused(ExecContext& ctx, const MatrixProduct& product);
  // By cuBLAS, which knows every shape.
  void multiply(ExecContext& ctx, const MatrixProduct& product);
  // Products that differ in m and addresses alone, in one call; those of no rows are left out.
  // Addresses are multiples of 16 bytes, and so are rows.
  void multiply_groups(ExecContext& ctx, std::span<const MatrixProduct> products);

 private:
  struct Plan;
  // Sizes, transpositions, types, writing, ReLU, alignment of a, b and c.
  using PlanKey =
      std::tuple<int64_t, int64_t, int64_t, bool, bool, DType, DType, Write, bool, int, int, int>;
  const Plan& plan_of(const MatrixProduct& product);
  void use_stream(ExecContext& ctx);

  cublasLtHandle_t fused_ = nullptr;
  cublasHandle_t plain_ = nullptr;
  std::map<PlanKey, std::unique_ptr<Plan>> plans_;
};

}  // namespace switchyard::cuda
