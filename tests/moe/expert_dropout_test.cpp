// Dropout inside experts: the masks that the tokens' keys say, at the place that T5 has it.
#include <gtest/gtest.h>

#include <cmath>

#include "backends/reference/reference_kernels.h"
#include "moe/moe_case.h"

namespace switchyard::test {
namespace {

constexpr double kRate = 0.25;
constexpr int64_t kWidth = 40;

MoeCase case_of(double rate) {
  return {.batch = {.sequences = 6, .length = 50, .group_sequences = 2},
          .experts = 3,
          .d_ff = kWidth,
          .capacity = {.tokens = 60},
          .expert_dropout = rate};
}

// The same weights and tokens, with dropout and without.
TEST(ExpertDropout, MasksByTokenBetweenActivationAndSecondProduct) {
  MoeOnOneRank with(case_of(kRate), make_reference_kernels());
  MoeOnOneRank without(case_of(0), make_reference_kernels());
  const auto hidden_of = [](MoeRank& rank) {
    rank.ctx().seed = 5;
    rank.ctx().step = 7;
    rank.forward();
    return numbers_of(rank.ctx(), rank.saved().experts.visits.at(0).experts.hidden);
  };
  const Numbers dropped = hidden_of(*with), plain = hidden_of(*without);
  EXPECT_EQ(
      numbers_of(with->ctx(), with->saved().experts.visits.at(0).experts.pre_activation),
      numbers_of(without->ctx(), without->saved().experts.visits.at(0).experts.pre_activation));

  const DistributedExperts::Saved& saved = with->saved().experts;
  const auto index = read_back_as<int32_t>(with->ctx(), saved.visits.at(0).part.index);
  const auto source = read_back_as<int32_t>(with->ctx(), saved.plan.source);
  const RandomKey key{.seed = 5,
                      .step = 7,
                      .layer = layer_id(StackKind::kEncoder, 1),
                      .purpose = Purpose::kExpertDropout};
  ASSERT_EQ(dropped.size(), index.size() * kWidth);
  double zeros = 0;
  for (size_t row = 0; row < index.size(); ++row) {
    const auto token = static_cast<uint32_t>(source[static_cast<size_t>(index[row])]);
    for (uint32_t d = 0; d < kWidth; ++d) {
      const bool drop = random_uniform(key, token, 0, d) < static_cast<float>(kRate);
      zeros += drop;
      const double expected = drop ? 0 : plain[row * kWidth + d] / (1 - kRate);
      ASSERT_NEAR(dropped[row * kWidth + d], expected, 1e-14) << row << ", " << d;
    }
  }
  const auto count = static_cast<double>(dropped.size());
  EXPECT_NEAR(zeros / count, kRate, 4 * std::sqrt(kRate * (1 - kRate) / count));
}

TEST(ExpertDropout, IsOffInEvaluation) {
  MoeCase moe_case = case_of(kRate);
  moe_case.training = false;
  MoeOnOneRank with(moe_case, make_reference_kernels());
  moe_case.expert_dropout = 0;
  MoeOnOneRank without(moe_case, make_reference_kernels());
  EXPECT_EQ(numbers_of(with->ctx(), with->forward()),
            numbers_of(without->ctx(), without->forward()));
  EXPECT_TRUE(with->saved().experts.visits.at(0).part.keys.absent());
}

}  // namespace
}  // namespace switchyard::test
