#include "support/backends.h"

#include "backends/cpu/cpu_kernels.h"
#include "backends/reference/reference_kernels.h"
#include "support/modelled_tiles.h"

namespace switchyard::test {

std::vector<BackendUnderTest> backends_under_test() {
  std::vector<BackendUnderTest> backends = {
      {.name = "reference",
       .make = make_reference_kernels,
       .dtypes = {DType::kFloat32, DType::kBFloat16}},
  };
  for (const cpu::Isa isa : cpu::kIsas) {
    backends.push_back({.name = "cpu_" + std::string(cpu::name_of(isa)),
                        .make = [isa] { return std::make_unique<CpuKernels>(2, isa); },
                        .dtypes = {DType::kFloat32, DType::kBFloat16},
                        .usable = cpu::is_usable(isa)});
  }
  backends.push_back(
      {.name = "cpu_modelled_tiles",
       .make = [] { return std::make_unique<CpuKernels>(2, cpu::Isa::kPortable, &kModelledTiles); },
       .dtypes = {DType::kBFloat16}});
  return backends;
}

Device reference_device() { return Device(make_reference_kernels()); }

}  // namespace switchyard::test
