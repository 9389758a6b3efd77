// The memory that a run says it plans is what it takes, in models large enough to measure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "cli/program.h"

namespace switchyard::test {
namespace {

struct Setting {
  std::string name;
  std::vector<std::string> overrides;
};

class PlannedMemory : public testing::TestWithParam<Setting> {};

TEST_P(PlannedMemory, IsWhatIsTaken) {
  const Program program;
  program.build_dataset();
  std::string arguments =
      "train small.yaml --set model.d_kv=64 --set model.heads=8 "
      "--set train.steps=3 --set train.evaluate_every=2";
  for (const std::string& change : GetParam().overrides) arguments += " --set '" + change + "'";
  const Outcome trained = program.run(arguments);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, testing::HasSubstr("saved activations"));
  std::smatch found;
  const std::regex line(R"(memory used, MiB: ([0-9.]+) at its peak, ([0-9.]+) % of the)");
  ASSERT_TRUE(std::regex_search(trained.out, found, line)) << trained.out;
  EXPECT_GT(std::stod(found[1]), 150) << "too little to measure";
  EXPECT_NEAR(std::stod(found[2]), 100, 10) << trained.out;
}

const Setting kSettings[] = {
    {"switch_bfloat16",
     {"model.d_model=512", "model.d_ff=1024", "train.precision=bfloat16", "checkpoint.async=true"}},
    {"adafactor_many_tokens",
     {"model.d_model=256", "model.d_ff=1024", "train.batch_sequences=256", "moe.experts=2",
      "optimizer.type=adafactor"}},
    {"dropless_recomputed_ordered",
     {"model.d_model=384", "model.d_ff=1536", "train.batch_sequences=64",
      "moe.capacity.overflow=dropless", "train.recompute=blocks", "train.reduction=ordered"}},
};
INSTANTIATE_TEST_SUITE_P(All, PlannedMemory, testing::ValuesIn(kSettings),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace switchyard::test
