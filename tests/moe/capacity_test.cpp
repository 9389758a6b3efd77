#include "moe/capacity.h"

#include <gtest/gtest.h>

namespace switchyard::test {
namespace {

int64_t capacity(const CapacityRule& rule, int64_t group_tokens, int64_t experts,
                 int64_t choices = 1, bool training = true) {
  return capacity_of_group(rule, training, choices, group_tokens, experts);
}

TEST(Capacity, RoundsAsAsked) {
  const CapacityRule up{.train_factor = 1.25, .min_tokens = 0};
  const CapacityRule down{.train_factor = 1.25, .min_tokens = 0, .round_up = false};
  EXPECT_EQ(capacity(up, 100, 8), 16);  // 15.625
  EXPECT_EQ(capacity(down, 100, 8), 15);
  EXPECT_EQ(capacity(up, 64, 8), 10);  // exact
  EXPECT_EQ(capacity(down, 64, 8), 10);
  EXPECT_EQ(capacity(up, 1, 8), 1);  // 0.15625
  EXPECT_EQ(capacity(down, 1, 8), 0);
}

// 1.1 * 50 / 5 is 11 for whoever writes the config, a little more in binary.
TEST(Capacity, DoesNotRoundUpOnRoundingErrors) {
  EXPECT_EQ(capacity({.train_factor = 1.1, .min_tokens = 0}, 50, 5), 11);
  EXPECT_EQ(capacity({.train_factor = 1.2, .min_tokens = 0}, 1000, 8), 150);
  for (int64_t tenths = 1; tenths <= 40; ++tenths) {
    for (int64_t tokens = 1; tokens <= 64; ++tokens) {
      const double factor = static_cast<double>(tenths) / 10;
      EXPECT_EQ(capacity({.train_factor = factor, .min_tokens = 0}, tokens, 7),
                (tenths * tokens + 69) / 70)
          << factor << " * " << tokens << " / 7";
    }
  }
}

TEST(Capacity, HasAFactorForTrainingAndOneForEvaluation) {
  const CapacityRule rule{.train_factor = 1.0, .eval_factor = 2.0, .min_tokens = 0};
  EXPECT_EQ(capacity(rule, 80, 8, 1, true), 10);
  EXPECT_EQ(capacity(rule, 80, 8, 1, false), 20);
}

TEST(Capacity, CountsEveryChoice) {
  EXPECT_EQ(capacity({.train_factor = 1.0, .min_tokens = 0}, 80, 8, 2), 20);
}

TEST(Capacity, IsAtLeastMinTokens) {
  const CapacityRule rule{.train_factor = 1.0, .min_tokens = 4};
  EXPECT_EQ(capacity(rule, 16, 8), 4);
  EXPECT_EQ(capacity(rule, 40, 8), 5);
}

TEST(Capacity, IsWhatTokensSaysWhateverTheRest) {
  for (const int64_t tokens : {0, 1, 64}) {
    const CapacityRule rule{.train_factor = 9, .min_tokens = 4, .tokens = tokens};
    EXPECT_EQ(capacity(rule, 1000, 2), tokens);
    EXPECT_EQ(capacity(rule, 1000, 2, 1, false), tokens);
  }
}

}  // namespace
}  // namespace switchyard::test
