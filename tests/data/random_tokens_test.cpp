#include "data/random_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::Ge;
using testing::Lt;

TEST(RandomTokens, FillWholeRowsAsAFunctionOfTheirIndex) {
  const RandomTokens source({.inputs_width = 40, .targets_width = 10, .vocabulary = 30});
  const std::vector<int64_t> indices = {5, 0, 5};
  TokenBatch batch;
  source.fill(indices, batch);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_THAT(batch.inputs, Each(AllOf(Ge(0), Lt(30))));
  EXPECT_THAT(batch.targets, Each(AllOf(Ge(0), Lt(30))));
  EXPECT_THAT(batch.inputs_segment, Each(1));
  EXPECT_THAT(batch.targets_segment, Each(1));
  const auto row = [&](int i) {
    return std::vector<int32_t>(batch.inputs.begin() + 40 * i, batch.inputs.begin() + 40 * (i + 1));
  };
  EXPECT_EQ(row(0), row(2));
  EXPECT_NE(row(0), row(1));
}

TEST(RandomTokens, OfADecoderPredictEveryNextToken) {
  const RandomTokens source(
      {.causal = true, .inputs_width = 12, .targets_width = 12, .vocabulary = 30});
  const std::vector<int64_t> indices = {7};
  TokenBatch batch;
  source.fill(indices, batch);
  EXPECT_THAT(batch.targets_segment, Each(1));
  for (size_t i = 0; i + 1 < 12; ++i) EXPECT_EQ(batch.targets[i], batch.inputs[i + 1]);
}

}  // namespace
}  // namespace switchyard::test
