#include "backends/cuda/cuda_kernels.h"

#include "backends/cuda/cuda_stream.h"
#include "backends/cuda/product_library.h"

namespace switchyard {

CudaKernels::CudaKernels(int device)
    : memory_(device), products_(std::make_unique<cuda::ProductLibrary>()) {}

CudaKernels::~CudaKernels() = default;

std::unique_ptr<Stream> CudaKernels::make_stream() {
  return std::make_unique<cuda::CudaStream>(memory_);
}

std::unique_ptr<Kernels> make_cuda_kernels(int device) {
  return std::make_unique<CudaKernels>(device);
}

}  // namespace switchyard
