#include "backends/cuda/product_library.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "backends/cuda/cuda_stream.h"
#include "backends/cuda/gpu_port.h"

namespace switchyard::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ExitCode::kDefect, std::string(call) + ": " + cublasGetStatusString(status));
}

cudaDataType_t type_of(DType dtype) {
  SWITCHYARD_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, "a product of ",
                   name_of(dtype));
  return dtype == DType::kFloat32 ? CUDA_R_32F : CUDA_R_16BF;
}

int narrow(int64_t size) {
  SWITCHYARD_CHECK(size <= std::numeric_limits<int>::max(), "a product of ", size, " rows");
  return static_cast<int>(size);
}

// cuBLAS takes columns where ours are rows: it is asked for c^T = b^T a^T.
cublasOperation_t operation_of(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }

// Elements from one stored row to the next.
int64_t stride_of_a(const MatrixProduct& p) { return p.a_transposed ? p.m : p.k; }
int64_t stride_of_b(const MatrixProduct& p) { return p.b_transposed ? p.k : p.n; }

// float32, on the host, as a call by value takes them.
constexpr float kOne = 1, kZero = 0;
const float* factor_of(Write write) { return write == Write::kAccumulate ? &kOne : &kZero; }

// The largest power of two, up to what allocations have, that an address is a multiple of.
int alignment_of(const void* data) {
  constexpr uintptr_t kMost = 256;
  const auto address = reinterpret_cast<uintptr_t>(data) | kMost;
  return static_cast<int>(address & -address);
}

}  // namespace

// A product's description for cuBLASLt, and the algorithm that it chose.
struct ProductLibrary::Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
  bool found = false;

  Plan() = default;
  ~Plan() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {a, b, c}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  void describe(const MatrixProduct& p);
  void choose(cublasLtHandle_t library, const MatrixProduct& p, size_t workspace_bytes);
};

static cublasLtMatrixLayout_t stored_layout(DType dtype, int64_t rows, int64_t columns) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<uint64_t>(columns),
                                   static_cast<uint64_t>(rows), columns),
        "cublasLtMatrixLayoutCreate");
  return layout;
}

void ProductLibrary::Plan::describe(const MatrixProduct& p) {
  check(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
  };
  // Its first matrix is our second.
  set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(operation_of(p.b_transposed)));
  set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<int32_t>(operation_of(p.a_transposed)));
  if (p.relu) set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_RELU));
  a = stored_layout(p.inputs, p.a_transposed ? p.k : p.m, stride_of_a(p));
  b = stored_layout(p.inputs, p.b_transposed ? p.n : p.k, stride_of_b(p));
  c = stored_layout(p.output, p.m, p.n);
}

void ProductLibrary::Plan::choose(cublasLtHandle_t library, const MatrixProduct& p,
                                  size_t workspace_bytes) {
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_bytes));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(alignment_of(p.b)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(alignment_of(p.a)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(alignment_of(p.c)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(alignment_of(p.c)));
  cublasLtMatmulHeuristicResult_t result = {};
  int results = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(library, operation, b, a, c, c,
                                                               preference, 1, &result, &results);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
  found = status == CUBLAS_STATUS_SUCCESS && results > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  algorithm = result.algo;
}

ProductLibrary::ProductLibrary() {
  check(cublasLtCreate(&fused_), "cublasLtCreate");
  check(cublasCreate(&plain_), "cublasCreate");
}

ProductLibrary::~ProductLibrary() {
  plans_.clear();
  cublasLtDestroy(fused_);
  cublasDestroy(plain_);
}

// Asking for an algorithm takes longer than many products do: answers are kept.
const ProductLibrary::Plan& ProductLibrary::plan_of(const MatrixProduct& p) {
  constexpr size_t kMostPlans = 4096;  // of calls whose number of rows keeps changing
  const PlanKey key{
      p.m,      p.n,     p.k,    p.a_transposed,    p.b_transposed,    p.inputs,
      p.output, p.write, p.relu, alignment_of(p.a), alignment_of(p.b), alignment_of(p.c)};
  const auto known = plans_.find(key);
  if (known != plans_.end()) return *known->second;
  if (plans_.size() >= kMostPlans) plans_.clear();
  auto plan = std::make_unique<Plan>();
  plan->describe(p);
  plan->choose(fused_, p, CudaStream::kWorkspaceBytes);
  return *plans_.emplace(key, std::move(plan)).first->second;
}

bool ProductLibrary::multiply_fused(ExecContext& ctx, const MatrixProduct& p) {
  const Plan& plan = plan_of(p);
  if (!plan.found) return false;
  const auto workspace = stream_of(ctx).product_workspace();
  check(cublasLtMatmul(fused_, plan.operation, &kOne, p.b, plan.b, p.a, plan.a, factor_of(p.write),
                       p.c, plan.c, p.c, plan.c, &plan.algorithm, workspace.data,
                       workspace.size_bytes, cuda_stream(ctx)),
        "cublasLtMatmul");
  return true;
}

void ProductLibrary::use_stream(ExecContext& ctx) {
  const auto workspace = stream_of(ctx).product_workspace();
  check(cublasSetStream(plain_, cuda_stream(ctx)), "cublasSetStream");  // forgets the workspace
  check(cublasSetWorkspace(plain_, workspace.data, workspace.size_bytes), "cublasSetWorkspace");
}

void ProductLibrary::multiply(ExecContext& ctx, const MatrixProduct& p) {
  SWITCHYARD_CHECK(!p.relu, "cuBLAS has no ReLU");
  if (p.m == 0 || p.n == 0) return;
  use_stream(ctx);
  check(
      cublasGemmEx(plain_, operation_of(p.b_transposed), operation_of(p.a_transposed), narrow(p.n),
                   narrow(p.m), narrow(p.k), &kOne, p.b, type_of(p.inputs), narrow(stride_of_b(p)),
                   p.a, type_of(p.inputs), narrow(stride_of_a(p)), factor_of(p.write), p.c,
                   type_of(p.output), narrow(p.n), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

namespace {

// The arguments of a grouped call, one entry for each group of one product.
struct Groups {
  std::vector<cublasOperation_t> first_operations, second_operations;
  std::vector<int> m, n, k, first_strides, second_strides, result_strides, sizes;
  std::vector<float> ones, factors;
  std::vector<const void*> first, second;
  std::vector<void*> results;

  void add(const MatrixProduct& p) {
    SWITCHYARD_CHECK(alignment_of(p.a) >= 16 && alignment_of(p.b) >= 16 && alignment_of(p.c) >= 16,
                     "a grouped product of unaligned matrices");
    first_operations.push_back(operation_of(p.b_transposed));
    second_operations.push_back(operation_of(p.a_transposed));
    m.push_back(narrow(p.n));
    n.push_back(narrow(p.m));
    k.push_back(narrow(p.k));
    first_strides.push_back(narrow(stride_of_b(p)));
    second_strides.push_back(narrow(stride_of_a(p)));
    result_strides.push_back(narrow(p.n));
    sizes.push_back(1);
    ones.push_back(kOne);
    factors.push_back(*factor_of(p.write));
    first.push_back(p.b);
    second.push_back(p.a);
    results.push_back(p.c);
  }
};

template <typename Pointer>
Pointer* pointers_to_device(ExecContext& ctx, const std::vector<Pointer>& pointers) {
  return const_cast<Pointer*>(to_device<Pointer>(ctx, pointers).data);
}

}  // namespace

void ProductLibrary::multiply_groups(ExecContext& ctx, std::span<const MatrixProduct> products) {
  Groups groups;
  for (const MatrixProduct& product : products) {
    SWITCHYARD_CHECK(!product.relu, "cuBLAS has no ReLU");
    if (product.m > 0) groups.add(product);
  }
  if (groups.m.empty()) return;
  const ScratchScope scratch(ctx.scratch);
  use_stream(ctx);
  check(cublasGemmGroupedBatchedEx(
            plain_, groups.first_operations.data(), groups.second_operations.data(),
            groups.m.data(), groups.n.data(), groups.k.data(), groups.ones.data(),
            pointers_to_device(ctx, groups.first), type_of(products.front().inputs),
            groups.first_strides.data(), pointers_to_device(ctx, groups.second),
            type_of(products.front().inputs), groups.second_strides.data(), groups.factors.data(),
            pointers_to_device(ctx, groups.results), type_of(products.front().output),
            groups.result_strides.data(), static_cast<int>(groups.m.size()), groups.sizes.data(),
            CUBLAS_COMPUTE_32F),
        "cublasGemmGroupedBatchedEx");
}

}  // namespace switchyard::cuda
