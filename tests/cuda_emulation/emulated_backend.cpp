// The tests of tests/backends/ with emulated CUDA as the one backend: instead of
// support/backends.cpp.
#include "backends/cuda/cuda_kernels.h"
#include "backends/reference/reference_kernels.h"
#include "support/backends.h"

namespace switchyard::test {

std::vector<BackendUnderTest> backends_under_test() {
  return {{.name = "cuda",
           .make = [] { return make_cuda_kernels(0); },
           .dtypes = {DType::kFloat32, DType::kBFloat16}}};
}

Device reference_device() { return Device(make_reference_kernels()); }

}  // namespace switchyard::test
