// Ranks as threads of this process; tests/trainer/mpirun has the same under mpirun.
#include <gtest/gtest.h>

#include "collectives/threaded.h"
#include "trainer/layout_comparison.h"

namespace switchyard::test {
namespace {

class ThreadedLayouts : public testing::TestWithParam<LayoutCase> {};

TEST_P(ThreadedLayouts, ThirtyStepsAgreeWithOneRank) {
  const std::vector<StepTrace> reference = run_reference(GetParam());
  run_threaded_ranks(GetParam().ranks, [&](Collectives& world) {
    compare_with_reference(GetParam(), reference, world);
  });
}

INSTANTIATE_TEST_SUITE_P(All, ThreadedLayouts, testing::ValuesIn(threaded_layouts()),
                         [](const auto& tested) { return tested.param.name; });

TEST(LayoutComparison, TheSmallRunLearnsAndTheForcedOneStarvesExperts) {
  const std::vector<StepTrace> plain = run_reference({"plain"});
  EXPECT_LT(plain.back().record.loss, plain.front().record.loss);
  EXPECT_GT(plain.front().record.dropped_share, 0.0);
  const std::vector<StepTrace> forced = run_reference({.name = "forced", .all_to_expert_0 = true});
  for (const LayerRecord& layer : forced.front().record.layers) {
    EXPECT_EQ(layer.dead_experts, 4) << layer.name;
  }
}

}  // namespace
}  // namespace switchyard::test
