// Who is kept where an expert has less room than takers, against a sort by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <tuple>

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
  const auto chosen = read_back_as<int32_t>(rank.ctx(), rank.saved().routing->expert);
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
      const Numbers weight = numbers_of(rank->ctx(), rank->saved().routing->weight);
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

// Every choice in its turn (first choices of all tokens first, then by priority, then by position)
// tries its own expert, then all by descending score.
std::vector<int32_t> rerouted_by_hand(const Numbers& scores, const std::vector<int32_t>& expert,
                                      const Numbers& priority, int64_t experts, int64_t choices,
                                      const std::vector<int64_t>& groups, int64_t capacity) {
  std::vector<int32_t> landed(expert.size(), -1);
  for (size_t g = 0; g + 1 < groups.size(); ++g) {
    std::vector<std::tuple<int64_t, double, int64_t>> turns;
    for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
      for (int64_t k = 0; k < choices; ++k) {
        const auto choice = static_cast<size_t>(t * choices + k);
        turns.emplace_back(k, priority.empty() ? 0 : -priority[choice], t);
      }
    }
    std::sort(turns.begin(), turns.end());
    std::vector<std::vector<int64_t>> guests(static_cast<size_t>(experts));
    for (const auto& [k, unused, t] : turns) {
      const auto choice = static_cast<size_t>(t * choices + k);
      if (expert[choice] < 0) continue;
      std::vector<int32_t> order(static_cast<size_t>(experts));
      std::iota(order.begin(), order.end(), 0);
      const auto rank_of = [&, at = t](int32_t e) {
        const double score = scores[static_cast<size_t>(at * experts + e)];
        return std::tuple(e != expert[choice], -score, e);
      };
      std::sort(order.begin(), order.end(),
                [&](int32_t a, int32_t b) { return rank_of(a) < rank_of(b); });
      for (const int32_t e : order) {
        std::vector<int64_t>& here = guests[static_cast<size_t>(e)];
        if (static_cast<int64_t>(here.size()) == capacity) continue;
        if (std::find(here.begin(), here.end(), t) != here.end()) continue;
        here.push_back(t);
        landed[choice] = e;
        break;
      }
    }
  }
  return landed;
}

TEST(Reroute, SendsEachChoiceWhereTheRulesSay) {
  for (const auto& [choices, capacity, tied] : {std::tuple<int64_t, int64_t, bool>{1, 3, false},
                                                {1, 0, false},
                                                {2, 4, false},
                                                {3, 5, true},
                                                {2, 100, false}}) {
    const int64_t tokens = 30, experts = 5;
    const std::vector<int64_t> groups = {0, 11, 11, 30};
    const Shape shape{tokens, choices}, all{tokens, experts};
    const Numbers scores =
        tied ? random_integers("scores", all, 0, 3) : normal_numbers("scores", all);
    const Numbers priorities = random_integers("priority", shape, 0, 4);
    OnlyRank rank(make_reference_kernels());
    Arena& arena = rank.ctx().saved;
    const TensorView score = arena.allocate(DType::kFloat64, all);
    const TensorView priority = arena.allocate(DType::kFloat64, shape);
    const TensorView expert = arena.allocate(DType::kInt32, shape);
    const TensorView mask = arena.allocate(DType::kUint8, {tokens});
    const TensorView kept = arena.allocate(DType::kInt32, shape);
    set_numbers(rank.ctx(), scores, score);
    set_numbers(rank.ctx(), priorities, priority);
    std::vector<uint8_t> real(static_cast<size_t>(tokens), 1);
    real[3] = real[20] = 0;
    upload<uint8_t>(rank.ctx(), real, mask);
    choose_top_k(rank.ctx(), score, mask, expert);
    const auto chosen = read_back_as<int32_t>(rank.ctx(), expert);
    for (const bool by_priority : {false, true}) {
      plan_reroute(rank.ctx(), score, expert, by_priority ? priority : TensorView(), groups,
                   capacity, kept);
      const std::vector<int32_t> expected = rerouted_by_hand(
          scores, chosen, by_priority ? priorities : Numbers(), experts, choices, groups, capacity);
      EXPECT_EQ(read_back_as<int32_t>(rank.ctx(), kept), expected);
      EXPECT_EQ(expected == chosen, capacity == 100);
    }
  }
}

// With room for all in all, no token is left behind; a rerouted one is weighted by the score of the
// expert that it lands on, and losses and loads count what the router wanted.
TEST(Reroute, WeightsByTheExpertLandedOnAndCountsTheOneWanted) {
  MoeCase moe_case = case_of(Priority::kPosition);
  moe_case.capacity.tokens = 5;  // of 15 in a group
  moe_case.capacity.overflow = CapacityRule::Overflow::kReroute;
  MoeOnOneRank rank(moe_case, make_reference_kernels());
  const std::vector<int32_t> kept = kept_of(*rank);
  rank->layer().observe(rank->ctx(), rank->rows(), rank->saved());
  const auto chosen = read_back_as<int32_t>(rank->ctx(), rank->saved().expert);
  const Numbers probs = numbers_of(rank->ctx(), rank->saved().routing->probs);
  const Numbers weight = numbers_of(rank->ctx(), rank->saved().routing->weight);
  std::vector<double> wanted(3), landed(3);
  int64_t moved = 0;
  for (size_t t = 0; t < kept.size(); ++t) {
    EXPECT_EQ(kept[t] >= 0, moe_case.batch.real[t] != 0);
    if (kept[t] < 0) continue;
    EXPECT_EQ(weight[t], probs[t * 3 + static_cast<size_t>(kept[t])]);
    wanted[static_cast<size_t>(chosen[t])] += 1;
    landed[static_cast<size_t>(kept[t])] += 1;
    moved += kept[t] != chosen[t];
  }
  EXPECT_GT(moved, 0);
  const MoeObservation& observation = rank->layer().observation();
  EXPECT_EQ(observation.chosen, wanted);
  EXPECT_EQ(observation.kept, landed);
  EXPECT_EQ(observation.dropped_by_choice[0], 0);
}

}  // namespace
}  // namespace switchyard::test
