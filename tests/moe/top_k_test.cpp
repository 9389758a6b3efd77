// The top-k router against its formulas in plain float64 loops: Mixtral's, OLMoE's and
// DeepSeek-V3's choices and weights, and the bias that balances without a loss.
#include <gtest/gtest.h>

#include "moe/router_case.h"

namespace switchyard::test {
namespace {

void expect_near(const Numbers& seen, const Numbers& expected) {
  ASSERT_EQ(seen.size(), expected.size());
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_NEAR(seen[i], expected[i], 1e-12) << i;
}

struct ByHand {
  std::vector<int32_t> chosen;
  Numbers weight;
};

// The bias of a router that has one; null for others.
Weight* bias_of(RouterRun& run) {
  for (Weight* weight : run.rank().layer().weights()) {
    if (weight->role() == WeightRole::kBalanceBias) return weight;
  }
  return nullptr;
}

// Scores s; choice among s + bias, limited to groups; weights of s alone.
ByHand top_k_by_hand(RouterRun& run, const TopKRouterOptions& options) {
  const Numbers logits = run.gate(0);
  const Numbers bias = bias_of(run) ? run.numbers(bias_of(run)->master()) : Numbers(run.experts());
  const auto k = static_cast<size_t>(options.top_k);
  const auto count = static_cast<size_t>(options.groups.count);
  const auto top = static_cast<size_t>(options.groups.top);
  const size_t width = run.experts() / count;
  ByHand by_hand;
  for (size_t t = 0; t < run.tokens(); ++t) {
    Numbers scores = row_of(logits, run.experts(), t);
    if (options.score == TopKRouterOptions::Score::kSigmoid) {
      for (double& score : scores) score = 1 / (1 + std::exp(-score));
    } else {
      scores = softmax_of(scores);
    }
    Numbers biased = scores;
    for (size_t e = 0; e < biased.size(); ++e) biased[e] += bias[e];
    if (count > 1) {
      Numbers of_group;
      for (size_t g = 0; g < count; ++g) {
        Numbers in_group(&biased[g * width], &biased[g * width] + width);
        std::sort(in_group.begin(), in_group.end(), std::greater<>());
        of_group.push_back(std::accumulate(in_group.begin(), in_group.begin() + k / top, 0.0));
      }
      const std::vector<int32_t> best = best_of(of_group, top);
      for (size_t e = 0; e < biased.size(); ++e) {
        const bool in = std::count(best.begin(), best.end(), static_cast<int32_t>(e / width)) > 0;
        if (!in) biased[e] = -1e300;
      }
    }
    const std::vector<int32_t> chosen = best_of(biased, k);
    double sum = 0;
    for (const int32_t e : chosen) sum += scores[static_cast<size_t>(e)];
    for (const int32_t e : chosen) {
      by_hand.chosen.push_back(run.real(t) ? e : -1);
      const double weight = scores[static_cast<size_t>(e)] / (options.normalize ? sum : 1.0);
      by_hand.weight.push_back(run.real(t) ? options.scale * weight : 0.0);
    }
  }
  return by_hand;
}

TopKRouterOptions options_of(int64_t top_k, bool normalize) {
  TopKRouterOptions options;
  options.top_k = top_k;
  options.normalize = normalize;
  return options;
}

TopKRouterOptions deep_seek_options() {
  TopKRouterOptions options = options_of(4, true);
  options.score = TopKRouterOptions::Score::kSigmoid;
  options.scale = 2.5;
  options.groups.count = 3;
  options.groups.top = 2;
  options.bias_update_rate = 0.1;
  return options;
}

void expect_by_hand(const TopKRouterOptions& options) {
  RouterRun run(router_case<TopKRouter>("top_k", options));
  const ByHand by_hand = top_k_by_hand(run, options);
  EXPECT_EQ(run.integers(run.routing().chosen), by_hand.chosen);
  expect_near(run.numbers(run.routing().weight), by_hand.weight);
}

TEST(TopK, RenormalisesAsMixtral) { expect_by_hand(options_of(2, true)); }
TEST(TopK, KeepsRawWeightsAsOlmoe) { expect_by_hand(options_of(3, false)); }
TEST(TopK, LimitsTheChoiceToGroupsAsDeepSeek) { expect_by_hand(deep_seek_options()); }
TEST(TopK, WeighsAllExpertsWhereAllAreChosen) { expect_by_hand(options_of(6, true)); }

TEST(TopK, ABiasChangesTheChoiceAndNeverTheWeight) {
  TopKRouterOptions options = deep_seek_options();
  options.groups = {};
  RouterRun run(router_case<TopKRouter>("top_k", options));
  const auto before = run.integers(run.routing().chosen);
  ASSERT_NE(bias_of(run), nullptr);
  EXPECT_FALSE(bias_of(run)->is_trained());
  set_numbers(run.rank().ctx(), {0.3, -0.2, 0.0, 0.25, -0.35, 0.1}, bias_of(run)->master());
  run.rank().forward();
  const ByHand by_hand = top_k_by_hand(run, options);
  EXPECT_EQ(run.integers(run.routing().chosen), by_hand.chosen);
  EXPECT_NE(by_hand.chosen, before);
  expect_near(run.numbers(run.routing().weight), by_hand.weight);
}

// Wang 2024: an expert above the mean load falls by the rate, one below it rises; then centred.
TEST(TopK, TheBiasFollowsTheLoadOfTheGlobalBatch) {
  RouterRun run(router_case<TopKRouter>("top_k", deep_seek_options()));
  MoeLayer& layer = run.rank().layer();
  set_numbers(run.rank().ctx(), Numbers(6), bias_of(run)->master());
  const std::vector<int64_t> chosen = {10, 2, 6, 6, 5, 7};  // mean 6
  layer.balance(run.rank().ctx(), chosen);
  const Weight& bias = *bias_of(run);
  expect_near(run.numbers(bias.master()), {-0.1, 0.1, 0.0, 0.0, 0.1, -0.1});
  layer.balance(run.rank().ctx(), std::vector<int64_t>{9, 1, 1, 1, 1, 11});
  const double mean = (-0.1 + 4 * 0.1 - 0.1) / 6;
  expect_near(run.numbers(bias.master()),
              {-0.2 - mean, 0.2 - mean, 0.1 - mean, 0.1 - mean, 0.2 - mean, -0.2 - mean});
}

}  // namespace
}  // namespace switchyard::test
