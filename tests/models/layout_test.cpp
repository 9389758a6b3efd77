// One model on many layouts of threaded ranks: losses, summed gradients and their norm are those of
// one rank, with everything random on.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "collectives/threaded.h"
#include "models/hf_model.h"
#include "models/random_source.h"
#include "optim/adamw.h"
#include "optim/weight_replicas.h"
#include "trainer/train_step.h"

namespace switchyard::test {
namespace {

struct Layout {
  int ranks, expert_group;
};
constexpr Layout kLayouts[] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 3}, {4, 1},
                               {4, 2}, {4, 4}, {8, 1}, {8, 2}, {8, 4}, {8, 8}};

struct Scenario {
  std::string name;
  int64_t experts = 5;
  int64_t sequences = 12, group_sequences = 2, micro_batches = 2;
  // kPull: every token chooses expert 0. -kPull: none does.
  double pull_of_expert_0 = 0;
};
constexpr double kPull = 0.8;
void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }

ModelOptions options_of(const Scenario& scenario) {
  ModelOptions options = tiny_options();
  options.experts = scenario.experts;
  options.buckets = 8;
  options.max_distance = 6;
  options.dropout = options.expert_dropout = 0.2;
  options.jitter = 0.1;
  options.capacity = {.train_factor = 0.8, .min_tokens = 1};
  options.losses = {.load_balance = 0.1, .router_z = 0.01};
  return options;
}

// What a step gave on a rank, gradients by global name.
struct Outcome {
  StepRecord record;
  double norm = 0;
  std::map<std::string, Numbers> gradients;
};

// Gives every token the same large part, which expert 0's logit follows. All features carry it, so
// that dropout can't take it away.
void pull_to_expert_0(ModelOnRank& rank, double pull) {
  LayerContext ctx = rank.context(false);
  for (Weight* weight : rank.model().weights()) {
    Numbers numbers = numbers_of(ctx, weight->master());
    if (weight->role() == WeightRole::kEmbedding) {
      for (double& number : numbers) number += 3;
    } else if (weight->role() == WeightRole::kRouter) {
      std::fill_n(numbers.begin(), weight->shape()[1], pull);
    }
    set_numbers(ctx, *weight, weight->master(), numbers);
  }
}

Outcome run_rank(const Arithmetic& arithmetic, const Scenario& scenario, const Layout& layout,
                 Collectives& world) {
  ModelOnRank rank(arithmetic, options_of(scenario), world, layout.expert_group, /*seed=*/1);
  if (scenario.pull_of_expert_0 != 0) pull_to_expert_0(rank, scenario.pull_of_expert_0);
  const std::vector<Weight*> weights = rank.model().weights();
  AdamW optimizer({}, weights);
  const ConstantSchedule schedule({});
  const RandomSource source(6, 5, 23);
  TrainStep step({rank.kernels(), rank.groups(), rank.model(), optimizer, schedule, source},
                 {.layout = {.sequences = scenario.sequences,
                             .group_sequences = scenario.group_sequences,
                             .micro_batches = scenario.micro_batches,
                             .ranks = layout.ranks},
                  .seed = 4});
  Outcome outcome;
  outcome.record = step.accumulate(2);
  LayerContext ctx = rank.context(true, 2);
  outcome.norm = WeightReplicas(rank.groups(), weights).gradient_norm(ctx);
  for (const NamedSlice& slice : slices_of(weights)) {
    outcome.gradients[slice.name] = numbers_of(ctx, slice.gradient());
  }
  return outcome;
}

std::vector<Outcome> run_layout(const Arithmetic& arithmetic, const Scenario& scenario,
                                const Layout& layout) {
  std::vector<Outcome> outcomes(static_cast<size_t>(layout.ranks));
  run_threaded_ranks(layout.ranks, [&](Collectives& world) {
    outcomes[static_cast<size_t>(world.rank())] = run_rank(arithmetic, scenario, layout, world);
  });
  return outcomes;
}

void compare_records(const StepRecord& record, const StepRecord& reference, double tolerance) {
  const auto near = [&](double actual, double expected, const char* what) {
    EXPECT_NEAR(actual, expected, tolerance * std::abs(expected)) << what;
  };
  near(record.loss, reference.loss, "loss");
  near(record.load_balance, reference.load_balance, "load balance");
  near(record.router_z, reference.router_z, "router z");
  near(record.dropped_share, reference.dropped_share, "dropped share");
  EXPECT_EQ(record.target_tokens, reference.target_tokens);
  EXPECT_EQ(record.tokens, reference.tokens);
  ASSERT_EQ(record.layers.size(), reference.layers.size());
  for (size_t i = 0; i < record.layers.size(); ++i) {
    EXPECT_EQ(record.layers[i].load, reference.layers[i].load) << record.layers[i].name;
  }
}

class Layouts : public testing::TestWithParam<std::tuple<Arithmetic, Scenario>> {};

TEST_P(Layouts, GiveTheGradientsOfOneRank) {
  const auto& [arithmetic, scenario] = GetParam();
  if (!arithmetic.usable) GTEST_SKIP() << "not usable on this machine";
  const double tolerance = arithmetic.tolerance(1e-11, 1e-5);
  const auto world = make_single_collectives();
  const Outcome reference = run_rank(arithmetic, scenario, {1, 1}, *world);
  ASSERT_TRUE(std::isfinite(reference.norm));
  ASSERT_GT(reference.record.dropped_share, 0) << "capacity should bind";

  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(std::to_string(layout.ranks) + "x" + std::to_string(layout.expert_group));
    const std::vector<Outcome> outcomes = run_layout(arithmetic, scenario, layout);
    std::map<std::string, int> holders;
    for (const Outcome& outcome : outcomes) {
      compare_records(outcome.record, reference.record, tolerance);
      EXPECT_NEAR(outcome.norm, reference.norm, tolerance * reference.norm);
      EXPECT_EQ(outcome.norm, outcomes[0].norm);
      for (const auto& [name, gradient] : outcome.gradients) {
        ++holders[name];
        expect_close(gradient, reference.gradients.at(name), tolerance, name);
        // Copies must be equal to the bit, or they would drift apart.
        const auto first = outcomes[0].gradients.find(name);
        if (first != outcomes[0].gradients.end()) {
          EXPECT_EQ(gradient, first->second) << name;
        }
      }
    }
    EXPECT_EQ(holders.size(), reference.gradients.size());
    for (const auto& [name, count] : holders) {
      const bool expert = name.find(".expert.") != std::string::npos;
      EXPECT_EQ(count, expert ? layout.ranks / layout.expert_group : layout.ranks) << name;
    }
  }
}

// Whether the scenarios are what their names say.
TEST(LayoutScenarios, PullMovesEveryToken) {
  for (const double pull : {kPull, -kPull}) {
    const auto world = make_single_collectives();
    const Outcome outcome =
        run_rank(reference_float64(), {.name = "", .pull_of_expert_0 = pull}, {1, 1}, *world);
    for (const LayerRecord& layer : outcome.record.layers) {
      int64_t all = 0;
      for (int64_t load : layer.load) all += load;
      EXPECT_EQ(layer.load[0], pull > 0 ? all : 0) << layer.name;
    }
  }
}

const Scenario kScenarios[] = {
    {.name = "five_experts_six_groups"},
    {.name = "seven_experts_eight_groups", .experts = 7, .sequences = 16, .micro_batches = 1},
    {.name = "more_ranks_than_groups", .sequences = 6, .group_sequences = 3, .micro_batches = 1},
    {.name = "fewer_experts_than_ranks", .experts = 2, .sequences = 8, .group_sequences = 1},
    {.name = "expert_without_tokens", .pull_of_expert_0 = -kPull},
    {.name = "all_tokens_to_one_expert", .pull_of_expert_0 = kPull},
};

std::string name_of_parameters(const testing::TestParamInfo<Layouts::ParamType>& info) {
  return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
}
INSTANTIATE_TEST_SUITE_P(Models, Layouts,
                         testing::Combine(testing::ValuesIn(arithmetics()),
                                          testing::ValuesIn(kScenarios)),
                         name_of_parameters);

}  // namespace
}  // namespace switchyard::test
