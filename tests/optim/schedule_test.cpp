#include "optim/schedule.h"

#include <gtest/gtest.h>

namespace switchyard::test {
namespace {

LinearWarmupCosineSchedule schedule(double rate, int64_t warmup, double final_ratio,
                                    int64_t total) {
  LinearWarmupCosineOptions options;
  options.learning_rate = rate;
  options.warmup_steps = warmup;
  options.final_ratio = final_ratio;
  return {options, total};
}

TEST(ConstantSchedule, IsConstant) {
  ConstantOptions options;
  options.learning_rate = 0.25;
  const ConstantSchedule constant(options);
  EXPECT_EQ(constant.learning_rate(0), 0.25);
  EXPECT_EQ(constant.learning_rate(1000000), 0.25);
}

TEST(LinearWarmupCosine, RisesInEqualStepsAndNeverStandsAtZero) {
  const auto rising = schedule(2.0, 4, 0.1, 100);
  EXPECT_DOUBLE_EQ(rising.learning_rate(0), 0.5);
  EXPECT_DOUBLE_EQ(rising.learning_rate(1), 1.0);
  EXPECT_DOUBLE_EQ(rising.learning_rate(2), 1.5);
  EXPECT_DOUBLE_EQ(rising.learning_rate(3), 2.0);
  EXPECT_DOUBLE_EQ(rising.learning_rate(4), 2.0);
  EXPECT_LT(rising.learning_rate(5), 2.0);
}

TEST(LinearWarmupCosine, FallsAlongHalfACosineToItsFinalRatio) {
  // 101 steps fall from step 10 to step 110, the last one.
  const auto falling = schedule(1.0, 10, 0.2, 111);
  EXPECT_DOUBLE_EQ(falling.learning_rate(10), 1.0);
  EXPECT_NEAR(falling.learning_rate(60), 0.6, 1e-12);  // half way
  EXPECT_NEAR(falling.learning_rate(35), 0.2 + 0.8 * 0.8535533905932737, 1e-12);
  EXPECT_NEAR(falling.learning_rate(85), 0.2 + 0.8 * 0.1464466094067263, 1e-12);
  EXPECT_NEAR(falling.learning_rate(110), 0.2, 1e-12);
  EXPECT_NEAR(falling.learning_rate(111), 0.2, 1e-12);  // stays there
  EXPECT_NEAR(falling.learning_rate(100000), 0.2, 1e-12);
  for (int64_t step = 11; step <= 110; ++step) {
    EXPECT_LT(falling.learning_rate(step), falling.learning_rate(step - 1)) << step;
  }
}

TEST(LinearWarmupCosine, WorksAtItsCorners) {
  EXPECT_DOUBLE_EQ(schedule(1.0, 0, 0.0, 11).learning_rate(0), 1.0);  // no warm-up
  EXPECT_NEAR(schedule(1.0, 0, 0.0, 11).learning_rate(10), 0.0, 1e-15);
  EXPECT_DOUBLE_EQ(schedule(1.0, 0, 1.0, 11).learning_rate(7), 1.0);   // nothing to fall
  EXPECT_DOUBLE_EQ(schedule(1.0, 0, 0.1, 1).learning_rate(0), 1.0);    // a single step
  EXPECT_DOUBLE_EQ(schedule(1.0, 10, 0.1, 10).learning_rate(9), 1.0);  // warm-up only
  EXPECT_DOUBLE_EQ(schedule(1.0, 20, 0.1, 10).learning_rate(9), 0.5);  // not even all of it
}

// 10 steps of warm-up, then 101 that fall from step 10 to step 110, the last one.
TEST(Linear, RisesAndFallsInStraightLines) {
  LinearOptions options;
  options.learning_rate = 2.0;
  options.warmup_steps = 10;
  options.final_ratio = 0.2;
  const LinearSchedule linear(options, 111);
  EXPECT_DOUBLE_EQ(linear.learning_rate(0), 0.2);
  EXPECT_DOUBLE_EQ(linear.learning_rate(4), 1.0);
  EXPECT_DOUBLE_EQ(linear.learning_rate(9), 2.0);
  EXPECT_DOUBLE_EQ(linear.learning_rate(10), 2.0);
  EXPECT_DOUBLE_EQ(linear.learning_rate(11), 2.0 - 1.6 / 100);
  EXPECT_DOUBLE_EQ(linear.learning_rate(60), 1.2);
  EXPECT_DOUBLE_EQ(linear.learning_rate(110), 0.4);
  EXPECT_DOUBLE_EQ(linear.learning_rate(100000), 0.4);
}

// 4 steps up, 6 level, 10 down: the last, step 19, stands at the end.
TEST(WarmupStableDecay, RisesStaysAndFalls) {
  WarmupStableDecayOptions options;
  options.learning_rate = 2.0;
  options.warmup_steps = 4;
  options.decay_steps = 10;
  options.final_ratio = 0.1;
  const WarmupStableDecaySchedule straight(options, 20);
  EXPECT_DOUBLE_EQ(straight.learning_rate(0), 0.5);
  EXPECT_DOUBLE_EQ(straight.learning_rate(3), 2.0);
  EXPECT_DOUBLE_EQ(straight.learning_rate(9), 2.0);
  EXPECT_DOUBLE_EQ(straight.learning_rate(10), 2.0 - 0.18);
  EXPECT_DOUBLE_EQ(straight.learning_rate(14), 1.1);
  EXPECT_DOUBLE_EQ(straight.learning_rate(19), 0.2);
  EXPECT_DOUBLE_EQ(straight.learning_rate(1000), 0.2);

  options.decay = WarmupStableDecayOptions::Decay::kOneMinusRoot;
  options.decay_steps = 16;
  const WarmupStableDecaySchedule root(options, 20);
  EXPECT_DOUBLE_EQ(root.learning_rate(7), 0.2 + 1.8 * 0.5);  // a quarter of the way
  EXPECT_DOUBLE_EQ(root.learning_rate(19), 0.2);
}

TEST(WarmupStableDecay, DecaysOverAFifthUnlessTold) {
  WarmupStableDecayOptions options;
  options.warmup_steps = 0;
  EXPECT_EQ(options.resolve_decay_steps(1000), 200);
  EXPECT_EQ(options.resolve_decay_steps(2), 1);
  EXPECT_DOUBLE_EQ(WarmupStableDecaySchedule(options, 1).learning_rate(0), 0.0);
  EXPECT_DOUBLE_EQ(WarmupStableDecaySchedule(options, 1000).learning_rate(799), 1e-3);
  EXPECT_LT(WarmupStableDecaySchedule(options, 1000).learning_rate(800), 1e-3);
}

// Parity 8.13.
TEST(Rsqrt, IsLevelForTheWarmupAndFallsWithTheRoot) {
  const RsqrtSchedule pretraining({});
  EXPECT_DOUBLE_EQ(pretraining.learning_rate(0), 0.01);
  EXPECT_DOUBLE_EQ(pretraining.learning_rate(9999), 0.01);
  EXPECT_DOUBLE_EQ(pretraining.learning_rate(10000), 0.01);
  EXPECT_LT(pretraining.learning_rate(10001), 0.01);
  EXPECT_DOUBLE_EQ(pretraining.learning_rate(40000), 0.005);
  RsqrtOptions options;
  options.factor = 3.0;
  options.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(RsqrtSchedule(options).learning_rate(0), 1.5);
  EXPECT_DOUBLE_EQ(RsqrtSchedule(options).learning_rate(9), 1.0);
}

}  // namespace
}  // namespace switchyard::test
