// Choosing the CPU backend's instruction set.
#include "backends/cpu/cpu_isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

// Restores the variable, which a developer may have set for the whole run.
class CpuIsa : public testing::Test {
 protected:
  CpuIsa() {
    if (const char* value = std::getenv(kVariable)) before_ = value;
  }
  ~CpuIsa() override {
    before_.empty() ? unsetenv(kVariable) : setenv(kVariable, before_.c_str(), 1);
  }
  void set(const char* value) { setenv(kVariable, value, 1); }

  static constexpr const char* kVariable = "SWITCHYARD_CPU_ISA";

 private:
  std::string before_;
};

TEST_F(CpuIsa, EveryUsableOneCanBeForced) {
  for (const cpu::Isa isa : cpu::kIsas) {
    set(std::string(cpu::name_of(isa)).c_str());
    if (cpu::is_usable(isa)) {
      EXPECT_EQ(cpu::choose_isa(), isa);
      const bool tiles = isa == cpu::Isa::kAmx;
      EXPECT_EQ(cpu::loops_of(isa).name, tiles ? "avx512" : cpu::name_of(isa));
      EXPECT_EQ(cpu::tiles_of(isa), tiles ? &cpu::kAmxLoops : nullptr);
      EXPECT_THAT(describe_cpu(3), HasSubstr(std::string(cpu::name_of(isa)) + " loops on 3 thr"));
    } else {
      EXPECT_THROW(cpu::choose_isa(), ConfigError);
    }
  }
}

TEST_F(CpuIsa, TheBestUsableOneIsTheDefault) {
  unsetenv(kVariable);
  const cpu::Isa chosen = cpu::choose_isa();
  EXPECT_TRUE(cpu::is_usable(chosen));
  for (const cpu::Isa isa : cpu::kIsas) {
    if (!cpu::is_usable(isa)) continue;
    EXPECT_GE(chosen, isa);
  }
  set("");
  EXPECT_EQ(cpu::choose_isa(), chosen);
}

TEST_F(CpuIsa, AnUnknownOneIsRefusedWithTheChoices) {
  set("avx1024");
  try {
    make_cpu_kernels(1);
    FAIL() << "not refused";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.summary(), HasSubstr("avx1024"));
    EXPECT_THAT(error.where(), HasSubstr(kVariable));
    EXPECT_THAT(error.what(), HasSubstr("portable, avx2, avx512, amx"));
  }
}

TEST_F(CpuIsa, Float32AndBFloat16AreSupported) {
  unsetenv(kVariable);
  const std::unique_ptr<Kernels> kernels = make_cpu_kernels(1);
  EXPECT_EQ(kernels->name(), "cpu");
  EXPECT_TRUE(kernels->supports(DType::kFloat32));
  EXPECT_FALSE(kernels->supports(DType::kFloat64));
  EXPECT_TRUE(kernels->supports(DType::kBFloat16));
}

}  // namespace
}  // namespace switchyard
