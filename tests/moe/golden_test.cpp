// Routing, capacity and losses against numbers of other systems (tests/golden), in float32 on every
// backend: parity 8.1 and 8.4.
#include <gtest/gtest.h>

#include <numeric>

#include "backends/reference/reference_kernels.h"
#include "moe/moe_case.h"
#include "support/backends.h"
#include "support/golden.h"

namespace switchyard::test {
namespace {

class MoeGolden : public testing::TestWithParam<BackendUnderTest> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << "this machine cannot run " << GetParam().name;
  }
  static MoeOnOneRank rank_of(const MoeCase& moe_case) { return {moe_case, GetParam().make()}; }
};

INSTANTIATE_TEST_SUITE_P(All, MoeGolden, testing::ValuesIn(backends_under_test()),
                         [](const auto& all) { return all.param.name; });

void set_weight(MoeRank& rank, Weight& weight, const Numbers& numbers) {
  set_numbers(rank.ctx(), numbers, weight.master());
  weight.master_changed();
}

Numbers identity(int64_t side) {
  Numbers matrix(static_cast<size_t>(side * side));
  for (int64_t i = 0; i < side; ++i) matrix[static_cast<size_t>(i * (side + 1))] = 1;
  return matrix;
}

// 1 where a choice was kept.
std::vector<int32_t> kept_flags(MoeRank& rank) {
  auto kept = read_back_as<int32_t>(rank.ctx(), rank.saved().kept);
  for (int32_t& expert : kept) expert = expert >= 0;
  return kept;
}

void expect_close(const Numbers& actual, const Numbers& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  EXPECT_LE(relative_difference(actual, expected), tolerance) << what;
}

MoeObservation observe(MoeRank& rank) {
  rank.layer().observation().clear();
  rank.layer().observe(rank.ctx(), rank.rows(), rank.saved());
  return rank.layer().observation();
}

// Published vectors of transformers' own tests.
TEST_P(MoeGolden, RouterEqualsThePublishedVectors) {
  const nlohmann::json golden = golden_json("router_losses.json");
  auto rank = rank_of({.batch = {.sequences = 2, .length = 3},
                       .experts = 2,
                       .capacity = {.tokens = golden["router.capacity"].get<int64_t>()},
                       .losses = {.load_balance = 1, .router_z = 1},
                       .training = false,
                       .dtype = DType::kFloat32,
                       .x = flat(golden["router.input"])});
  set_weight(*rank, rank->gate(), flat(golden["router.weight"]));
  rank->forward();
  const Routing& routing = *rank->saved().routing;
  const double tolerance = golden["tolerance"];
  const Numbers chosen = flat(golden["router.chosen"]);
  EXPECT_EQ(read_back_as<int32_t>(rank->ctx(), routing.expert),
            std::vector<int32_t>(chosen.begin(), chosen.end()));
  expect_close(numbers_of(rank->ctx(), routing.logits), flat(golden["router.logits"]), 1e-5,
               "logits");
  expect_close(numbers_of(rank->ctx(), routing.weight), flat(golden["router.gate"]), 1e-6, "gate");
  const MoeObservation observation = observe(*rank);
  EXPECT_NEAR(observation.load_balance, golden["router.aux_value"].get<double>(), tolerance);
  EXPECT_NEAR(observation.router_z, golden["router.z_value"].get<double>(), tolerance);
}

TEST_P(MoeGolden, RouterZEqualsThePublishedValue) {
  const nlohmann::json golden = golden_json("router_losses.json");
  auto rank = rank_of({.batch = {.sequences = 2, .length = 6},
                       .experts = 4,
                       .losses = {.load_balance = 0, .router_z = 1},
                       .training = false,
                       .dtype = DType::kFloat32,
                       .x = flat(golden["z.logits"])});
  set_weight(*rank, rank->gate(), identity(4));
  rank->forward();
  EXPECT_NEAR(observe(*rank).router_z, golden["z.value"].get<double>(), 1e-5);
}

// The published probabilities don't add up to 1, so that no router can produce them: E sum f P is
// made here from the operation's shares and means.
TEST_P(MoeGolden, LoadBalanceEqualsThePublishedValue) {
  const nlohmann::json golden = golden_json("router_losses.json");
  OnlyRank rank(GetParam().make());
  LayerContext& ctx = rank.ctx();
  const Tensor probs(DType::kFloat32, {5, 2}, rank.memory());
  const Tensor expert(DType::kInt32, {5, 1}, rank.memory());
  set_numbers(ctx, flat(golden["aux.probabilities"]), probs);
  upload<int32_t>(ctx, golden["aux.chosen"].get<std::vector<int32_t>>(), expert);
  const RoutingStatistics statistics = allocate_statistics(ctx.saved, 1, 2);
  const int64_t groups[] = {0, 5};
  routing_statistics(ctx, probs, probs, expert, {}, groups, statistics);
  const auto chosen = read_back_as<int64_t>(ctx, statistics.chosen);
  const auto mean = read_back_as<double>(ctx, statistics.mean_probability);
  double sum = 0;
  for (size_t e = 0; e < 2; ++e) sum += static_cast<double>(chosen[e]) / 5 * mean[e];
  EXPECT_NEAR(2 * sum, golden["aux.value"].get<double>(), 1e-5);
}

// Parity 8.4, Hugging Face's grouping: one sequence is a group, ties to the lower expert, exactly C
// kept of each expert, leftmost first, dropped rows zero.
TEST_P(MoeGolden, CapacityAndOutputsEqualHuggingFaces) {
  const GoldenTensors golden("capacity.safetensors");
  const nlohmann::json facts = golden_json("capacity.json");
  for (const int64_t capacity : facts["capacities"]) {
    SCOPED_TRACE("capacity " + std::to_string(capacity));
    auto rank = rank_of({.batch = {.sequences = 2, .length = 12},
                         .experts = 4,
                         .d_model = 8,
                         .d_ff = 12,
                         .capacity = {.tokens = capacity, .padding_takes_capacity = true},
                         .training = false,
                         .dtype = DType::kFloat32,
                         .x = golden.floats("input")});
    set_weight(*rank, rank->gate(), golden.floats("router.classifier.weight"));
    Numbers wi, wo;
    for (int e = 0; e < 4; ++e) {
      const std::string name = "experts.expert_" + std::to_string(e);
      const Numbers in = golden.floats(name + ".wi.weight"),
                    out = golden.floats(name + ".wo.weight");
      wi.insert(wi.end(), in.begin(), in.end());
      wo.insert(wo.end(), out.begin(), out.end());
    }
    set_weight(*rank, rank->wi(), wi);
    set_weight(*rank, rank->wo(), wo);

    const Numbers y = numbers_of(rank->ctx(), rank->forward());
    const Routing& routing = *rank->saved().routing;
    EXPECT_EQ(read_back_as<int32_t>(rank->ctx(), routing.expert), golden.integers("chosen"));
    expect_close(numbers_of(rank->ctx(), routing.logits), golden.floats("logits"), 1e-6, "logits");
    expect_close(numbers_of(rank->ctx(), routing.weight), golden.floats("gate"), 1e-6, "gate");
    const std::string suffix = "." + std::to_string(capacity);
    EXPECT_EQ(kept_flags(*rank), golden.integers("kept" + suffix));
    expect_close(y, golden.floats("output" + suffix), 1e-5, "output");
    const std::vector<int32_t> kept = golden.integers("kept" + suffix);
    for (size_t i = 0; i < y.size(); ++i) {
      if (kept[i / 8] == 0) {
        EXPECT_EQ(y[i], 0.0) << "dropped token " << i / 8;
      }
    }
    if (capacity == 0) {
      EXPECT_EQ(y, Numbers(y.size()));
    }
  }
}

// Parity 8.4, Mesh-TensorFlow's grouping: several sequences a group, padding takes no capacity,
// both roundings, min_tokens. The gate is the identity, so that logits are the input and, without
// a gradient from above, dx is the gradient of the load balance.
TEST_P(MoeGolden, GroupsOfSequencesEqualMeshTensorFlows) {
  const GoldenTensors golden("mesh_routing.safetensors");
  const nlohmann::json facts = golden_json("mesh_routing.json");
  const int64_t experts = facts["experts"], length = facts["length"];
  for (int number = 0; number < 18; ++number) {
    const nlohmann::json& of_case = facts.at("case." + std::to_string(number));
    const std::string name = of_case["name"];
    SCOPED_TRACE(name);
    const std::string mask = of_case["mask"];
    const std::vector<int32_t> real = golden.integers("mask." + mask);
    const GlobalBatch batch{.sequences = 6,
                            .length = length,
                            .group_sequences = of_case["group_sequences"],
                            .real = std::vector<uint8_t>(real.begin(), real.end())};
    const CapacityRule rule{.train_factor = of_case["factor"],
                            .min_tokens = of_case["min_tokens"],
                            .round_up = of_case["rounding"] == "ceil"};
    const int64_t group_tokens = batch.group_sequences * length;
    // Mesh-TensorFlow stops at the group's tokens, beyond which nothing changes.
    EXPECT_EQ(std::min(group_tokens, capacity_of_group(rule, true, 1, group_tokens, experts)),
              of_case["capacity"].get<int64_t>());

    auto rank = rank_of({.batch = batch,
                         .experts = experts,
                         .d_model = experts,
                         .capacity = rule,
                         .losses = {.load_balance = 1, .router_z = 1},
                         .dtype = DType::kFloat32,
                         .x = golden.floats("logits")});
    set_weight(*rank, rank->gate(), identity(experts));
    rank->forward();
    EXPECT_EQ(kept_flags(*rank), golden.integers(name + ".kept"));
    const auto chosen = read_back_as<int32_t>(rank->ctx(), rank->saved().routing->expert);
    const std::vector<int32_t> expected_chosen = golden.integers("chosen");
    Numbers gate = numbers_of(rank->ctx(), rank->saved().routing->weight);
    const std::vector<int32_t> kept = golden.integers(name + ".kept");
    for (size_t t = 0; t < chosen.size(); ++t) {
      EXPECT_EQ(chosen[t], real[t] != 0 ? expected_chosen[t] : -1) << "token " << t;
      if (kept[t] == 0) gate[t] = 0;
    }
    expect_close(gate, golden.floats(name + ".gate"), 1e-6, "gate");

    const MoeObservation observation = observe(*rank);
    EXPECT_EQ(observation.dropped_by_choice[0], of_case["dropped"].get<double>());
    EXPECT_NEAR(observation.load_balance, of_case["load_balance_real_mean"].get<double>(), 1e-6);
    if (batch.groups() == 1) {
      EXPECT_NEAR(observation.router_z, facts["router_z"][mask].get<double>(), 1e-5);
    }
  }
}

TEST_P(MoeGolden, LoadBalanceGradientEqualsPyTorchs) {
  const GoldenTensors golden("mesh_routing.safetensors");
  const nlohmann::json facts = golden_json("mesh_routing.json");
  const int64_t experts = facts["experts"];
  for (int number = 0; number < 18; ++number) {
    const nlohmann::json& of_case = facts.at("case." + std::to_string(number));
    const std::string name = of_case["name"];
    const std::vector<int32_t> real = golden.integers("mask." + of_case["mask"].get<std::string>());
    auto rank = rank_of({.batch = {.sequences = 6,
                                   .length = facts["length"],
                                   .group_sequences = of_case["group_sequences"],
                                   .real = std::vector<uint8_t>(real.begin(), real.end())},
                         .experts = experts,
                         .d_model = experts,
                         .losses = {.load_balance = 1},
                         .dtype = DType::kFloat32,
                         .x = golden.floats("logits")});
    set_weight(*rank, rank->gate(), identity(experts));
    rank->forward();
    fill_zero(rank->ctx(), rank->dy());
    rank->backward();
    expect_close(numbers_of(rank->ctx(), rank->dx()),
                 golden.floats(name + ".load_balance_gradient"), 1e-5, name);
  }
}

}  // namespace
}  // namespace switchyard::test
