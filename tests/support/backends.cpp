#include "support/backends.h"

#include "backends/cpu/cpu_kernels.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard::test {

std::vector<BackendUnderTest> backends_under_test() {
  std::vector<BackendUnderTest> backends = {
      {.name = "reference",
       .make = make_reference_kernels,
       .dtypes = {DType::kFloat32, DType::kBFloat16}},
  };
  for (const cpu::Isa isa : {cpu::Isa::kAvx512, cpu::Isa::kAvx2, cpu::Isa::kPortable}) {
    backends.push_back({.name = "cpu_" + std::string(cpu::name_of(isa)),
                        .make = [isa] { return std::make_unique<CpuKernels>(2, isa); },
                        .dtypes = {DType::kFloat32, DType::kBFloat16},
                        .usable = cpu::is_usable(isa)});
  }
  return backends;
}

Device reference_device() { return Device(make_reference_kernels()); }

}  // namespace switchyard::test
