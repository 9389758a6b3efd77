// cuBLAS and cuBLASLt as plain loops, for the emulation: NVIDIA's prototypes, of the calls that the
// CUDA backend makes. An element is one float32 sum in the order of k. Types, strides and
// alignments that the libraries refuse are refused; C isn't read where beta is 0; workspaces are
// written to.
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <vector>

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};
struct cublasLtContext {};

namespace {

bool is_known(cudaDataType_t type) { return type == CUDA_R_32F || type == CUDA_R_16BF; }
size_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

float element_of(const void* data, cudaDataType_t type, int64_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}

void set_element(void* data, cudaDataType_t type, int64_t i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
  }
}

// As the libraries see them: in columns, `stride` elements from one to the next.
struct Operand {
  const void* data;
  cudaDataType_t type;
  cublasOperation_t operation;
  int64_t stride;
};

// C [m, n] = alpha op(A) op(B) + beta C.
struct Product {
  int64_t m, n, k;
  float alpha, beta;
  Operand a, b;
  void* c;
  cudaDataType_t c_type;
  int64_t c_stride;
  bool relu = false;
};

// Rows `count` of `depth` elements each: those of op(A), or the columns of op(B).
std::vector<float> lines_of(const Operand& x, int64_t count, int64_t depth, bool along_columns) {
  std::vector<float> lines(static_cast<size_t>(count * depth));
  const bool contiguous = (x.operation == CUBLAS_OP_N) == along_columns;
  for (int64_t line = 0; line < count; ++line) {
    for (int64_t d = 0; d < depth; ++d) {
      const int64_t at = contiguous ? d + line * x.stride : line + d * x.stride;
      lines[static_cast<size_t>(line * depth + d)] = element_of(x.data, x.type, at);
    }
  }
  return lines;
}

void multiply(const Product& p) {
  const std::vector<float> a = lines_of(p.a, p.m, p.k, false);
  const std::vector<float> b = lines_of(p.b, p.n, p.k, true);
  for (int64_t j = 0; j < p.n; ++j) {
    for (int64_t i = 0; i < p.m; ++i) {
      float sum = 0;
      for (int64_t d = 0; d < p.k; ++d) {
        sum += a[static_cast<size_t>(i * p.k + d)] * b[static_cast<size_t>(j * p.k + d)];
      }
      const int64_t at = i + j * p.c_stride;
      float value = p.alpha * sum;
      if (p.beta != 0) value += p.beta * element_of(p.c, p.c_type, at);
      set_element(p.c, p.c_type, at, p.relu ? std::max(value, 0.0f) : value);
    }
  }
}

bool fits(const Operand& x, int64_t rows, int64_t columns) {
  const int64_t stored_rows = x.operation == CUBLAS_OP_N ? rows : columns;
  return (x.operation == CUBLAS_OP_N || x.operation == CUBLAS_OP_T) &&
         x.stride >= std::max<int64_t>(stored_rows, 1);
}

bool is_aligned(const void* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

// What the libraries' documentation lists for float32 sums. A group's results have the type of its
// operands.
cublasStatus_t check(const Product& p, cublasComputeType_t compute, bool grouped) {
  if (compute != CUBLAS_COMPUTE_32F || !is_known(p.a.type) || p.a.type != p.b.type ||
      !is_known(p.c_type) || (p.a.type == CUDA_R_32F && p.c_type != CUDA_R_32F) ||
      (grouped && p.a.type != p.c_type)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (p.m < 0 || p.n < 0 || p.k < 0 || !fits(p.a, p.m, p.k) || !fits(p.b, p.k, p.n) ||
      p.c_stride < std::max<int64_t>(p.m, 1) || !is_aligned(p.a.data, size_of(p.a.type)) ||
      !is_aligned(p.b.data, size_of(p.b.type)) || !is_aligned(p.c, size_of(p.c_type))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

bool is_on_device(const void* pointer) {
  return pointer != nullptr && cuda_emulation::is_device_pointer(pointer);
}

// A library may use all of its workspace.
void scribble(void* workspace, size_t size_bytes) {
  if (workspace != nullptr) std::memset(workspace, 0xA5, std::min<size_t>(size_bytes, 256));
}

// NVIDIA's descriptors are opaque words that ours are kept in.
struct Layout {
  cudaDataType_t type;
  int64_t rows, columns, stride;
};
struct Operation {
  cublasComputeType_t compute;
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
};
struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D
};
// What an algorithm was chosen for.
struct Algorithm {
  uint64_t workspace_bytes;
  uint32_t alignments[4];
};

template <typename Mine, typename Opaque>
Mine read(const Opaque* opaque) {
  static_assert(sizeof(Mine) <= sizeof(opaque->data));
  Mine mine;
  std::memcpy(&mine, opaque->data, sizeof(mine));
  return mine;
}
template <typename Mine, typename Opaque>
void write(Opaque* opaque, const Mine& mine) {
  static_assert(sizeof(Mine) <= sizeof(opaque->data));
  std::memcpy(opaque->data, &mine, sizeof(mine));
}

template <typename T>
cublasStatus_t assign(T& field, const void* value, size_t size_bytes) {
  if (size_bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

Product product_of(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c) {
  const auto how = read<Operation>(operation);
  const auto first = read<Layout>(a), second = read<Layout>(b), result = read<Layout>(c);
  return {.m = result.rows,
          .n = result.columns,
          .k = how.a == CUBLAS_OP_N ? first.columns : first.rows,
          .alpha = 1,
          .beta = 0,
          .a = {nullptr, first.type, how.a, first.stride},
          .b = {nullptr, second.type, how.b, second.stride},
          .c = nullptr,
          .c_type = result.type,
          .c_stride = result.stride,
          .relu = how.epilogue == CUBLASLT_EPILOGUE_RELU};
}

// Whether the layouts are those of one product.
bool agree(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
           cublasLtMatrixLayout_t c) {
  const auto how = read<Operation>(operation);
  auto first = read<Layout>(a), second = read<Layout>(b);
  const auto result = read<Layout>(c);
  if (how.a == CUBLAS_OP_T) std::swap(first.rows, first.columns);
  if (how.b == CUBLAS_OP_T) std::swap(second.rows, second.columns);
  return first.rows == result.rows && first.columns == second.rows &&
         second.columns == result.columns;
}

}  // namespace

extern "C" {

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "not supported";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "invalid value";
    default:
      return "failed";
  }
}

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  *handle = {.stream = stream};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t size_bytes) {
  if (!is_on_device(workspace) || !is_aligned(workspace, 256)) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->workspace_bytes = size_bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t a_operation,
                            cublasOperation_t b_operation, int m, int n, int k, const void* alpha,
                            const void* a, cudaDataType_t a_type, int a_stride, const void* b,
                            cudaDataType_t b_type, int b_stride, const void* beta, void* c,
                            cudaDataType_t c_type, int c_stride, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
  const Product product{.m = m,
                        .n = n,
                        .k = k,
                        .alpha = *static_cast<const float*>(alpha),
                        .beta = *static_cast<const float*>(beta),
                        .a = {a, a_type, a_operation, a_stride},
                        .b = {b, b_type, b_operation, b_stride},
                        .c = c,
                        .c_type = c_type,
                        .c_stride = c_stride};
  const cublasStatus_t status = check(product, compute, false);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (!is_on_device(a) || !is_on_device(b) || !is_on_device(c)) return CUBLAS_STATUS_INVALID_VALUE;
  cuda_emulation::enqueue(handle->stream, [product, context = *handle] {
    scribble(context.workspace, context.workspace_bytes);
    multiply(product);
  });
  return CUBLAS_STATUS_SUCCESS;
}

// Sizes are read from the host at once, addresses from the device when the stream comes to them.
cublasStatus_t cublasGemmGroupedBatchedEx(
    cublasHandle_t handle, const cublasOperation_t a_operations[],
    const cublasOperation_t b_operations[], const int m[], const int n[], const int k[],
    const void* alphas, const void* const a[], cudaDataType_t a_type, const int a_strides[],
    const void* const b[], cudaDataType_t b_type, const int b_strides[], const void* betas,
    void* const c[], cudaDataType_t c_type, const int c_strides[], int groups, const int sizes[],
    cublasComputeType_t compute) {
  if (!is_on_device(a) || !is_on_device(b) || !is_on_device(c)) return CUBLAS_STATUS_INVALID_VALUE;
  int first = 0;
  for (int group = 0; group < groups; ++group) {
    Product product{.m = m[group],
                    .n = n[group],
                    .k = k[group],
                    .alpha = static_cast<const float*>(alphas)[group],
                    .beta = static_cast<const float*>(betas)[group],
                    .a = {nullptr, a_type, a_operations[group], a_strides[group]},
                    .b = {nullptr, b_type, b_operations[group], b_strides[group]},
                    .c = nullptr,
                    .c_type = c_type,
                    .c_stride = c_strides[group]};
    const cublasStatus_t status = check(product, compute, true);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    // The library's kernels for groups read vectors of 16 bytes.
    const auto whole = [](int64_t stride, cudaDataType_t type) {
      return stride * static_cast<int64_t>(size_of(type)) % 16 == 0;
    };
    if (!whole(product.a.stride, a_type) || !whole(product.b.stride, b_type) ||
        !whole(product.c_stride, c_type)) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    cuda_emulation::enqueue(handle->stream, [=, size = sizes[group], context = *handle]() mutable {
      scribble(context.workspace, context.workspace_bytes);
      for (int i = first; i < first + size; ++i) {
        product.a.data = a[i];
        product.b.data = b[i];
        product.c = c[i];
        multiply(product);
      }
    });
    first += sizes[group];
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  *layout = new cublasLtMatrixLayoutOpaque_t;
  write(*layout, Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *operation = new cublasLtMatmulDescOpaque_t;
  write(*operation, Operation{.compute = compute});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t size_bytes) {
  auto how = read<Operation>(operation);
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) status = assign(how.a, value, size_bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) status = assign(how.b, value, size_bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE) status = assign(how.epilogue, value, size_bytes);
  write(operation, how);
  return status;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  write(*preference, Preference{});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t size_bytes) {
  auto wanted = read<Preference>(preference);
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    status = assign(wanted.workspace_bytes, value, size_bytes);
  }
  const int matrix = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  if (matrix >= 0 && matrix < 4) status = assign(wanted.alignments[matrix], value, size_bytes);
  write(preference, wanted);
  return status;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  *found = 0;
  if (wanted < 1 || !agree(operation, a, b, c) || !agree(operation, a, b, d)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Product product = product_of(operation, a, b, d);
  const cublasStatus_t status = check(product, read<Operation>(operation).compute, false);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const auto limits = read<Preference>(preference);
  Algorithm algorithm{.workspace_bytes = limits.workspace_bytes, .alignments = {}};
  std::copy_n(limits.alignments, 4, algorithm.alignments);
  write(&results[0].algo, algorithm);
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].workspaceSize = limits.workspace_bytes;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  // The backend adds to where it writes.
  if (algorithm == nullptr || c != d || !agree(operation, a_layout, b_layout, c_layout) ||
      !agree(operation, a_layout, b_layout, d_layout)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  Product product = product_of(operation, a_layout, b_layout, d_layout);
  product.alpha = *static_cast<const float*>(alpha);
  product.beta = *static_cast<const float*>(beta);
  product.a.data = a;
  product.b.data = b;
  product.c = d;
  const cublasStatus_t status = check(product, read<Operation>(operation).compute, false);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const auto chosen = read<Algorithm>(algorithm);
  const void* matrices[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (!is_on_device(matrices[i]) || !is_aligned(matrices[i], chosen.alignments[i])) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
  }
  if (workspace_bytes < chosen.workspace_bytes || !is_on_device(workspace)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  cuda_emulation::enqueue(stream, [=] {
    scribble(workspace, workspace_bytes);
    multiply(product);
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
