#include "data/span_corruption.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/errors.h"

namespace switchyard {
namespace {

constexpr int32_t kFirstSentinel = 32099;  // T5's: 32,000 pieces and 100 sentinels
const Vocabulary kVocabulary{.size = 32128,
                             .pad = kPadId,
                             .eos = kEosId,
                             .first_sentinel = kFirstSentinel,
                             .sentinels = kSentinels};

std::vector<int32_t> text_of(int tokens) {
  std::vector<int32_t> ids(tokens);
  std::iota(ids.begin(), ids.end(), 1000);
  return ids;
}

// The lengths of each stretch of equal values, the first one being of zeros.
std::vector<int> stretches(std::span<const uint8_t> mask) {
  std::vector<int> lengths;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (i == 0 || mask[i] != mask[i - 1]) lengths.push_back(0);
    ++lengths.back();
  }
  return lengths;
}

// Made by running T5's own random_spans_helper.
TEST(SpanLengths, GoldenTable) {
  EXPECT_EQ(span_lengths(64), (SpanLengths{70, 64, 14}));
  EXPECT_EQ(span_lengths(114), (SpanLengths{126, 114, 26}));
  EXPECT_EQ(span_lengths(128), (SpanLengths{141, 128, 29}));
  EXPECT_EQ(span_lengths(256), (SpanLengths{284, 256, 58}));
  EXPECT_EQ(span_lengths(512), (SpanLengths{568, 512, 114}));
  EXPECT_EQ(span_lengths(1024), (SpanLengths{1137, 1024, 229}));
}

// 0.15 * 10 = 1.5 and 0.15 * 30 = 4.5 in float64: Python rounds to 2 and to 4. Rounding half away
// from zero would give 2 and 5.
TEST(SpanLengths, HalvesRoundToEven) {
  EXPECT_EQ(std::nearbyint(10 * 0.15), 2);
  EXPECT_EQ(std::nearbyint(30 * 0.15), 4);
  // 10 tokens: 2 noise, round(2/3) = 1 span: 8 + 1 + 1 inputs. 11 tokens: round(1.65) = 2: 11.
  EXPECT_EQ(span_lengths(10), (SpanLengths{10, 10, 4}));
  // 30 tokens: 4 noise (5 were 28 inputs), round(4/3) = 1 span: 26 + 1 + 1 inputs.
  EXPECT_EQ(span_lengths(28), (SpanLengths{30, 28, 6}));
}

// The mask multiplies in float32, the helper in float64: where 0.15 t ends in a half the two can
// differ. The list was made by running both in Python for all t < 1200.
TEST(SpanLengths, MaskAndHelperDifferWhereTheyDoInT5) {
  std::vector<int> differing;
  for (int tokens = 2; tokens < 1200; ++tokens) {
    const int planned = std::max(1, static_cast<int>(std::nearbyint(tokens * 0.15)));
    const auto mask = noise_mask(tokens, {}, {});
    if (std::count(mask.begin(), mask.end(), 1) != planned) differing.push_back(tokens);
  }
  EXPECT_EQ(differing, (std::vector<int>{190, 350, 390, 670, 710, 750, 790, 830}));
}

TEST(SpanLengths, CorruptedLengthsAreWhatCorruptionMakes) {
  for (int tokens = 1; tokens <= 700; ++tokens) {
    const CorruptedText text = corrupt_spans(text_of(tokens), kVocabulary, {}, {.index = 5});
    const SpanLengths lengths = corrupted_lengths(tokens);
    EXPECT_EQ(lengths.inputs, static_cast<int>(text.inputs.size())) << tokens;
    EXPECT_EQ(lengths.targets, static_cast<int>(text.targets.size())) << tokens;
  }
}

TEST(SpanLengths, WidestHoldsTheStandardTexts) {
  for (const int inputs_length : {64, 114, 128, 256, 512, 1024}) {
    const SpanLengths lengths = span_lengths(inputs_length);
    EXPECT_EQ(widest_corrupted_lengths(lengths.tokens), lengths) << inputs_length;
  }
}

TEST(NoiseMask, StartsWithTextAndEndsWithNoise) {
  for (int tokens = 2; tokens <= 600; ++tokens) {
    const auto mask = noise_mask(tokens, {}, {.seed = 3, .index = tokens});
    ASSERT_EQ(static_cast<int>(mask.size()), tokens);
    EXPECT_EQ(mask.front(), 0) << tokens;
    EXPECT_EQ(mask.back(), 1) << tokens;
  }
}

TEST(NoiseMask, OneTwoAndThreeTokens) {
  EXPECT_EQ(noise_mask(1, {}, {}), (std::vector<uint8_t>{0}));
  EXPECT_EQ(noise_mask(2, {}, {}), (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(noise_mask(3, {}, {}), (std::vector<uint8_t>{0, 0, 1}));

  const CorruptedText one = corrupt_spans(std::vector{7}, kVocabulary, {}, {});
  EXPECT_EQ(one.inputs, (std::vector<int32_t>{7, kEosId}));
  EXPECT_EQ(one.targets, (std::vector<int32_t>{32099, kEosId}));
  const CorruptedText two = corrupt_spans(std::vector{7, 8}, kVocabulary, {}, {});
  EXPECT_EQ(two.inputs, (std::vector<int32_t>{7, 32099, kEosId}));
  EXPECT_EQ(two.targets, (std::vector<int32_t>{32099, 8, kEosId}));
  const CorruptedText three = corrupt_spans(std::vector{7, 8, 9}, kVocabulary, {}, {});
  EXPECT_EQ(three.inputs, (std::vector<int32_t>{7, 8, 32099, kEosId}));
  EXPECT_EQ(three.targets, (std::vector<int32_t>{32099, 9, kEosId}));
}

TEST(NoiseMask, FifteenPercentInEveryPlaceButTheEdges) {
  constexpr int kTokens = 568, kSamples = 4000;
  std::vector<int> noise(kTokens, 0);
  int64_t total = 0;
  for (int sample = 0; sample < kSamples; ++sample) {
    const auto mask = noise_mask(kTokens, {}, {.seed = 1, .index = sample});
    for (int i = 0; i < kTokens; ++i) noise[i] += mask[i];
    total += std::count(mask.begin(), mask.end(), 1);
  }
  EXPECT_NEAR(static_cast<double>(total) / kSamples / kTokens, 0.15, 0.001);
  // Well inside, spans lie anywhere: 0.15 +- 5 standard errors of a share of 4,000.
  for (int i = 100; i < kTokens - 100; ++i) {
    EXPECT_NEAR(static_cast<double>(noise[i]) / kSamples, 0.15,
                5 * std::sqrt(.15 * .85 / kSamples));
  }
}

// 40 tokens: 6 of noise in 2 spans, 34 kept in 2 spans. Each of the 5 divisions of the noise and
// the 33 of the rest must be as frequent as the next, and independent of each other.
TEST(NoiseMask, EveryDivisionIsEquallyLikely) {
  constexpr int kSamples = 66'000;
  std::map<std::pair<int, int>, int> seen;
  std::map<int, int> by_noise, by_rest;
  for (int sample = 0; sample < kSamples; ++sample) {
    const auto lengths = stretches(noise_mask(40, {}, {.seed = 9, .epoch = 2, .index = sample}));
    ASSERT_EQ(lengths.size(), 4u);
    ASSERT_EQ(lengths[0] + lengths[2], 34);
    ASSERT_EQ(lengths[1] + lengths[3], 6);
    ++by_rest[lengths[0]];
    ++by_noise[lengths[1]];
    ++seen[{lengths[0], lengths[1]}];
  }
  const auto chi_squared = [](const auto& counts, double cells) {
    const double expected = kSamples / cells;
    double sum = (cells - static_cast<double>(counts.size())) * expected;  // cells never seen
    for (const auto& [key, count] : counts)
      sum += (count - expected) * (count - expected) / expected;
    return sum;
  };
  // The 0.9999 quantiles of chi squared with 4, 32 and 164 degrees of freedom.
  EXPECT_LT(chi_squared(by_noise, 5), 23.5);
  EXPECT_LT(chi_squared(by_rest, 33), 70.6);
  EXPECT_LT(chi_squared(seen, 165), 241.0);
}

// Three spans, so that one division has two boundaries: all C(8, 2) = 28 pairs.
TEST(NoiseMask, DivisionsIntoThreeAreEquallyLikely) {
  constexpr int kSamples = 56'000;
  std::map<std::pair<int, int>, int> seen;
  for (int sample = 0; sample < kSamples; ++sample) {
    const auto lengths = stretches(noise_mask(60, {}, {.seed = 4, .index = sample}));  // 9 of noise
    ASSERT_EQ(lengths.size(), 6u);
    ++seen[{lengths[1], lengths[3]}];
  }
  ASSERT_EQ(seen.size(), 28u);
  double sum = 0;
  for (const auto& [key, count] : seen) sum += (count - 2000.) * (count - 2000.) / 2000.;
  EXPECT_LT(sum, 64.0);  // 0.9999 quantile with 27 degrees of freedom
}

TEST(NoiseMask, IsAFunctionOfSeedEpochAndIndex) {
  const SampleKey key{.seed = 1, .epoch = 2, .index = 3};
  const auto mask = noise_mask(200, {}, key);
  EXPECT_EQ(mask, noise_mask(200, {}, key));
  EXPECT_NE(mask, noise_mask(200, {}, {.seed = 2, .epoch = 2, .index = 3}));
  EXPECT_NE(mask, noise_mask(200, {}, {.seed = 1, .epoch = 3, .index = 3}));
  EXPECT_NE(mask, noise_mask(200, {}, {.seed = 1, .epoch = 2, .index = 4}));
  EXPECT_NE(mask, noise_mask(200, {}, {.seed = 1, .epoch = 2, .index = 3 + (int64_t{1} << 32)}));
}

TEST(CorruptSpans, InputsAndTargetsRebuildTheText) {
  for (int tokens = 1; tokens <= 600; tokens = tokens * 5 / 4 + 1) {
    for (int index = 0; index < 20; ++index) {
      const auto ids = text_of(tokens);
      const CorruptedText text = corrupt_spans(ids, kVocabulary, {}, {.index = index});
      ASSERT_EQ(text.inputs.back(), kEosId);
      ASSERT_EQ(text.targets.back(), kEosId);

      std::map<int32_t, std::vector<int32_t>> spans;  // what stands behind each sentinel
      int32_t sentinel = 0;
      for (const int32_t id : std::vector(text.targets.begin(), text.targets.end() - 1)) {
        if (id > kFirstSentinel - kSentinels) {
          sentinel = id;
          spans[sentinel];
        } else {
          spans[sentinel].push_back(id);
        }
      }
      std::vector<int32_t> rebuilt, sentinels;
      for (const int32_t id : std::vector(text.inputs.begin(), text.inputs.end() - 1)) {
        if (id > kFirstSentinel - kSentinels) {
          sentinels.push_back(id);
          const auto& span = spans.at(id);
          rebuilt.insert(rebuilt.end(), span.begin(), span.end());
        } else {
          rebuilt.push_back(id);
        }
      }
      EXPECT_EQ(rebuilt, ids);
      for (size_t k = 0; k < sentinels.size(); ++k) {
        EXPECT_EQ(sentinels[k], kFirstSentinel - static_cast<int32_t>(k));
      }
      if (tokens > 1) {
        EXPECT_EQ(sentinels.size(), spans.size()) << "no closing sentinel";
      }
    }
  }
}

TEST(CheckSentinels, RefusesWhatNeedsMoreThanAHundred) {
  EXPECT_NO_THROW(check_sentinels(1024));
  EXPECT_NO_THROW(check_sentinels(3));
  EXPECT_THROW(check_sentinels(2), ConfigError);
  EXPECT_THROW(check_sentinels(4096), ConfigError);
  EXPECT_NO_THROW(check_sentinels(4096, {.mean_span_length = 10}));
  EXPECT_THROW(check_sentinels(128, {.noise_density = 0}), ConfigError);
  EXPECT_THROW(check_sentinels(128, {.noise_density = 0.95}), ConfigError);
  EXPECT_THROW(check_sentinels(128, {.mean_span_length = 0.5}), ConfigError);
}

}  // namespace
}  // namespace switchyard
