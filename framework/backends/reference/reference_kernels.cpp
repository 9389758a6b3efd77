#include "backends/reference/reference_kernels.h"

namespace switchyard {

std::unique_ptr<Kernels> make_reference_kernels() { return std::make_unique<ReferenceKernels>(); }

}  // namespace switchyard
