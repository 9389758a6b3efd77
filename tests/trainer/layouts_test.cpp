// Ranks as threads of this process; tests/trainer/mpirun has the same under mpirun.
#include <gtest/gtest.h>

#include "trainer/layout_comparison.h"

namespace switchyard::test {
namespace {

class ThreadedLayouts : public testing::TestWithParam<LayoutCase> {};

TEST_P(ThreadedLayouts, ThirtyStepsAgreeWithOneRank) {
  const auto pool = make_threaded_pool(1);
  const Comparison seen = compare_with_one_rank(GetParam(), *pool);
  EXPECT_FALSE(seen.failure) << place_of(*seen.failure) << ": " << seen.failure->what;
  // A step starts from equal weights and a row's result doesn't depend on the other rows of a
  // product: no choice of an expert may flip, not even at a near tie.
  EXPECT_EQ(seen.near_ties, 0);
}

INSTANTIATE_TEST_SUITE_P(All, ThreadedLayouts, testing::ValuesIn(threaded_layouts()),
                         [](const auto& tested) { return tested.param.name; });

INSTANTIATE_TEST_SUITE_P(Optimizers, ThreadedLayouts, testing::ValuesIn(optimizer_layouts()),
                         [](const auto& tested) { return tested.param.name; });

// What is reported is plain, whatever is trained on.
TEST(LayoutComparison, SmoothingAndZLossesTrainButAreNotInTheLoss) {
  const std::vector<StepRecord> plain = train_on_one_rank({"plain"});
  const std::vector<StepRecord> smoothed =
      train_on_one_rank({.name = "smoothed", .overrides = {"train.label_smoothing=0.3"}});
  const std::vector<StepRecord> with_z =
      train_on_one_rank({.name = "with_z", .overrides = {"train.output_z_loss=0.01"}});
  for (const auto* other : {&smoothed, &with_z}) {
    EXPECT_EQ(other->front().loss, plain.front().loss);
    EXPECT_NE(other->front().gradient_norm, plain.front().gradient_norm);
    EXPECT_NE(other->back().loss, plain.back().loss);
  }
  EXPECT_EQ(plain.front().output_z, 0.0);
  EXPECT_EQ(smoothed.front().output_z, 0.0);
  // About 0.01 log(128)^2: first logits are near 0.
  EXPECT_NEAR(with_z.front().output_z, 0.01 * 23.5, 0.15);
}

TEST(LayoutComparison, TheSmallRunLearnsAndTheForcedOneStarvesExperts) {
  const std::vector<StepRecord> plain = train_on_one_rank({"plain"});
  EXPECT_LT(plain.back().loss, plain.front().loss);
  EXPECT_GT(plain.front().dropped_share, 0.0);
  const std::vector<StepRecord> forced =
      train_on_one_rank({.name = "forced", .all_to_expert_0 = true});
  for (const LayerRecord& layer : forced.front().layers) {
    EXPECT_EQ(layer.dead_experts, 4) << layer.name;
  }
}

}  // namespace
}  // namespace switchyard::test
