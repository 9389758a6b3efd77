// The CPU backend where its work is cut up, on teams of several sizes: bit for bit the same.
#include <gtest/gtest.h>

#include "backends/cpu/cpu_kernels.h"
#include "support/backends.h"
#include "support/modelled_tiles.h"
#include "support/op_cases_large.h"

namespace switchyard::test {
namespace {

struct Path {
  cpu::Isa isa;
  DType dtype;
  const cpu::TileLoops* tiles = cpu::tiles_of(isa);
};

class CpuLargeCases : public testing::TestWithParam<Path> {
 protected:
  void SetUp() override {
    if (!cpu::is_usable(GetParam().isa)) {
      GTEST_SKIP() << cpu::name_of(GetParam().isa) << " cannot run on this machine";
    }
  }

  std::vector<Result> results(const OpCase& op_case, int threads) {
    Device device(std::make_unique<CpuKernels>(threads, GetParam().isa, GetParam().tiles));
    OpRun run(op_case, device, GetParam().dtype, GetParam().dtype);
    run.forward();
    if (op_case.backward) run.backward();
    return run.results();
  }
};

TEST_P(CpuLargeCases, DoNotDependOnTheNumberOfThreads) {
  for (const OpCase& op_case : large_op_cases()) {
    SCOPED_TRACE(op_case.name);
    const std::vector<Result> one = results(op_case, 1);
    for (const int threads : {2, 3, 5}) {
      const std::vector<Result> several = results(op_case, threads);
      for (size_t i = 0; i < one.size(); ++i) {
        // Not EXPECT_EQ: a failure would print every number.
        EXPECT_TRUE(several[i].numbers == one[i].numbers) << one[i].name << ", " << threads;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Isa, CpuLargeCases,
    testing::Values(
        Path{cpu::Isa::kAvx512, DType::kFloat32}, Path{cpu::Isa::kAvx2, DType::kFloat32},
        Path{cpu::Isa::kPortable, DType::kFloat32}, Path{cpu::Isa::kAmx, DType::kBFloat16},
        Path{cpu::Isa::kAvx512, DType::kBFloat16}, Path{cpu::Isa::kAvx2, DType::kBFloat16},
        Path{cpu::Isa::kPortable, DType::kBFloat16},
        Path{cpu::Isa::kPortable, DType::kBFloat16, &kModelledTiles}),
    [](const auto& parameter) {
      const bool modelled = parameter.param.tiles == &kModelledTiles;
      return std::string(modelled ? "modelled_tiles" : cpu::name_of(parameter.param.isa)) + "_" +
             std::string(name_of(parameter.param.dtype));
    });

}  // namespace
}  // namespace switchyard::test
