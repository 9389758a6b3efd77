#include "base/random.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

// Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors).
TEST(Philox, KnownAnswers) {
  const PhiloxBits zeros = philox(0, 0, 0, 0, 0);
  EXPECT_EQ(zeros.word[0], 0x6627e8d5u);
  EXPECT_EQ(zeros.word[1], 0xe169c58du);
  EXPECT_EQ(zeros.word[2], 0xbc57ac4cu);
  EXPECT_EQ(zeros.word[3], 0x9b00dbd8u);
  const PhiloxBits ones = philox(~0u, ~0u, ~0u, ~0u, ~uint64_t{0});
  EXPECT_EQ(ones.word[0], 0x408f276du);
  EXPECT_EQ(ones.word[1], 0x41c83b0eu);
  EXPECT_EQ(ones.word[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.word[3], 0x6d5451fdu);
}

TEST(Random, EveryPartOfTheKeyMatters) {
  const RandomKey key{.seed = 1, .step = 2, .layer = 3, .purpose = Purpose::kJitter};
  const uint32_t base = random_word(key, 5, 0, 7);
  RandomKey other = key;
  other.seed = 2;
  EXPECT_NE(base, random_word(other, 5, 0, 7));
  other = key;
  other.step = 3;
  EXPECT_NE(base, random_word(other, 5, 0, 7));
  other = key;
  other.layer = 4;
  EXPECT_NE(base, random_word(other, 5, 0, 7));
  other = key;
  other.purpose = Purpose::kInit;
  EXPECT_NE(base, random_word(other, 5, 0, 7));
  EXPECT_NE(base, random_word(key, 6, 0, 7));
  EXPECT_NE(base, random_word(key, 5, 1, 7));
  EXPECT_NE(base, random_word(key, 5, 0, 8));
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  const RandomKey key{.seed = 42};
  const int count = 200000;
  double uniform_sum = 0, normal_sum = 0, normal_squares = 0;
  for (int i = 0; i < count; ++i) {
    const float u = random_uniform(key, 0, 0, static_cast<uint32_t>(i));
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    uniform_sum += u;
    const double n = random_normal(key, 1, 0, static_cast<uint32_t>(i));
    normal_sum += n;
    normal_squares += n * n;
  }
  EXPECT_NEAR(uniform_sum / count, 0.5, 4 * 0.2887 / std::sqrt(count));
  EXPECT_NEAR(normal_sum / count, 0.0, 4 / std::sqrt(count));
  EXPECT_NEAR(normal_squares / count, 1.0, 4 * std::sqrt(2.0 / count));
}

}  // namespace
}  // namespace switchyard
