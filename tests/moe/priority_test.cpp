// Who is kept where an expert has less room than takers, against a sort by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "backends/reference/reference_kernels.h"
#include "moe/moe_case.h"

namespace switchyard::test {
namespace {

using Priority = CapacityRule::Priority;

MoeCase case_of(Priority priority, bool padding_takes_capacity = false) {
  return {.batch = padded_batch(3),
          .experts = 3,
          .capacity = {
              .tokens = 2, .padding_takes_capacity = padding_takes_capacity, .priority = priority}};
}

std::vector<int32_t> kept_of(MoeRank& rank) {
  rank.forward();
  return read_back_as<int32_t>(rank.ctx(), rank.saved().kept);
}

// Of each group and expert the two choices of the highest score, equals by position.
std::vector<int32_t> best_of(MoeRank& rank, const GlobalBatch& batch, const Numbers& score) {
  const auto chosen = read_back_as<int32_t>(rank.ctx(), rank.saved().routing.expert);
  std::vector<int32_t> kept(chosen.size(), -1);
  for (int64_t group = 0; group < batch.groups(); ++group) {
    std::vector<size_t> order(static_cast<size_t>(batch.group_sequences * batch.length));
    std::iota(order.begin(), order.end(), group * batch.group_sequences * batch.length);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return score[a] > score[b]; });
    std::vector<int> taken(3);
    for (const size_t t : order) {
      if (chosen[t] >= 0 && taken[static_cast<size_t>(chosen[t])]++ < 2) kept[t] = chosen[t];
    }
  }
  return kept;
}

Numbers random_scores(const MoeRank& rank, const LayerContext& ctx) {
  const RandomKey key{.seed = ctx.seed,
                      .step = ctx.step,
                      .layer = layer_id(StackKind::kEncoder, 1),
                      .purpose = Purpose::kDropPriority};
  Numbers scores;
  for (int64_t t = 0; t < rank.rows().tokens(); ++t) {
    scores.push_back(random_uniform(key, static_cast<uint32_t>(t), 0, 0));
  }
  return scores;
}

TEST(CapacityPriority, ProbabilityKeepsTheHighestGateWeights) {
  for (const bool padding : {false, true}) {
    const MoeCase moe_case = case_of(Priority::kProbability, padding);
    MoeOnOneRank rank(moe_case, make_reference_kernels());
    for (const bool training : {true, false}) {
      rank->ctx().training = training;
      const std::vector<int32_t> kept = kept_of(*rank);
      const Numbers weight = numbers_of(rank->ctx(), rank->saved().routing.weight);
      EXPECT_EQ(kept, best_of(*rank, moe_case.batch, weight));
      EXPECT_NE(kept, best_of(*rank, moe_case.batch, Numbers(kept.size())));  // by position
    }
  }
}

// A gate of zeros: all weights are equal.
TEST(CapacityPriority, EqualProbabilitiesGoByPosition) {
  const MoeCase moe_case = case_of(Priority::kProbability);
  MoeOnOneRank rank(moe_case, make_reference_kernels());
  set_numbers(rank->ctx(), Numbers(3 * 4), rank->gate().master());
  const std::vector<int32_t> kept = kept_of(*rank);
  EXPECT_EQ(kept, best_of(*rank, moe_case.batch, Numbers(kept.size())));
}

TEST(CapacityPriority, RandomFollowsTheTokensNumbers) {
  for (const bool padding : {false, true}) {
    const MoeCase moe_case = case_of(Priority::kRandom, padding);
    MoeOnOneRank rank(moe_case, make_reference_kernels());
    std::vector<std::vector<int32_t>> seen;
    for (const auto& [seed, step] : {std::pair{1u, 1u}, {1u, 2u}, {2u, 1u}}) {
      rank->ctx().seed = seed;
      rank->ctx().step = step;
      seen.push_back(kept_of(*rank));
      EXPECT_EQ(seen.back(), best_of(*rank, moe_case.batch, random_scores(*rank, rank->ctx())));
      EXPECT_EQ(kept_of(*rank), seen.back());
    }
    EXPECT_NE(seen[0], seen[1]);
    EXPECT_NE(seen[0], seen[2]);
  }
}

TEST(CapacityPriority, NothingIsRandomInEvaluation) {
  const MoeCase moe_case = case_of(Priority::kRandom);
  MoeOnOneRank rank(moe_case, make_reference_kernels());
  rank->ctx().training = false;
  const std::vector<int32_t> kept = kept_of(*rank);
  EXPECT_EQ(kept, best_of(*rank, moe_case.batch, Numbers(kept.size())));
}

// Which of a group's tokens are kept is fair: over many steps no position is favoured.
TEST(CapacityPriority, RandomFavoursNoPosition) {
  MoeCase moe_case{.batch = {.sequences = 1, .length = 10},
                   .experts = 1,
                   .capacity = {.tokens = 5, .priority = Priority::kRandom}};
  MoeOnOneRank rank(moe_case, make_reference_kernels());
  std::vector<int> times(10);
  const int steps = 2000;
  for (int step = 0; step < steps; ++step) {
    rank->ctx().step = static_cast<uint32_t>(step);
    const std::vector<int32_t> kept = kept_of(*rank);
    for (size_t t = 0; t < kept.size(); ++t) times[t] += kept[t] >= 0;
  }
  for (const int count : times) EXPECT_NEAR(count, steps / 2, 5 * 0.5 * std::sqrt(steps));
}

}  // namespace
}  // namespace switchyard::test
