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

INSTANTIATE_TEST_SUITE_P(Optimizers, ThreadedLayouts, testing::ValuesIn(optimizer_layouts()),
                         [](const auto& tested) { return tested.param.name; });

// What is reported is plain, whatever is trained on.
TEST(LayoutComparison, SmoothingAndZLossesTrainButAreNotInTheLoss) {
  const std::vector<StepTrace> plain = run_reference({"plain"});
  const std::vector<StepTrace> smoothed =
      run_reference({.name = "smoothed", .overrides = {"train.label_smoothing=0.3"}});
  const std::vector<StepTrace> with_z =
      run_reference({.name = "with_z", .overrides = {"train.output_z_loss=0.01"}});
  for (const auto* other : {&smoothed, &with_z}) {
    EXPECT_EQ(other->front().record.loss, plain.front().record.loss);
    EXPECT_NE(other->front().record.gradient_norm, plain.front().record.gradient_norm);
    EXPECT_NE(other->back().record.loss, plain.back().record.loss);
  }
  EXPECT_EQ(plain.front().record.output_z, 0.0);
  EXPECT_EQ(smoothed.front().record.output_z, 0.0);
  // About 0.01 log(128)^2: first logits are near 0.
  EXPECT_NEAR(with_z.front().record.output_z, 0.01 * 23.5, 0.15);
}

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
