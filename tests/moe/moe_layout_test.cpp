// A MoE layer gives the same outputs, gradients and observations on any ranks as on one.
#include <gtest/gtest.h>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "moe/moe_case.h"
#include "optim/weight_replicas.h"
#include "support/backends.h"

namespace switchyard::test {
namespace {

// A layer's results over the whole batch.
struct Results {
  Numbers y, dx, dgate, dwi, dwo, observation;
};

// [E, ...] of the gradient of a stacked weight, this rank's experts set. Every holder of a replica
// has the same sum, so only the first expert group contributes.
Numbers spread_experts(MoeRank& rank, Weight& weight) {
  const ExpertRange& range = weight.experts();
  const int64_t each = weight.shape()[1] * weight.shape()[2];
  Numbers all(static_cast<size_t>(range.total * each));
  if (rank.rank().groups().replica->rank() > 0) return all;
  const Numbers here = numbers_of(rank.ctx(), weight.gradient());
  std::copy(here.begin(), here.end(), all.begin() + range.first * each);
  return all;
}

Results results_of(MoeRank& rank) {
  Results results;
  results.y = rank.all_summed(rank.spread(rank.forward()));
  rank.backward();
  rank.layer().observe(rank.ctx(), rank.rows(), rank.saved());
  WeightReplicas(rank.rank().groups(), rank.layer().weights()).reduce_gradients(rank.ctx());
  results.dx = rank.all_summed(rank.spread(rank.dx()));
  results.dgate = numbers_of(rank.ctx(), rank.gate().gradient());
  results.dwi = rank.all_summed(spread_experts(rank, rank.wi()));
  results.dwo = rank.all_summed(spread_experts(rank, rank.wo()));
  MoeObservation observation = rank.layer().observation();
  observation.rows_sent = observation.bytes_sent = 0;  // the only ones that depend on the layout
  results.observation = rank.all_summed(observation.pack());
  return results;
}

void expect_equal(const Results& results, const Results& reference, double tolerance) {
  EXPECT_LE(relative_difference(results.y, reference.y), tolerance) << "y";
  EXPECT_LE(relative_difference(results.dx, reference.dx), tolerance) << "dx";
  EXPECT_LE(relative_difference(results.dgate, reference.dgate), tolerance) << "gate";
  EXPECT_LE(relative_difference(results.dwi, reference.dwi), tolerance) << "wi";
  EXPECT_LE(relative_difference(results.dwo, reference.dwo), tolerance) << "wo";
  ASSERT_EQ(results.observation.size(), reference.observation.size());
  for (size_t i = 0; i < reference.observation.size(); ++i) {
    EXPECT_NEAR(results.observation[i], reference.observation[i],
                10 * tolerance * std::max(1.0, std::abs(reference.observation[i])))
        << "field " << i << " of the observation";
  }
}

// Puts a large column into x, so that the gate can be made to send tokens wherever it likes.
Numbers steered_x(const MoeCase& moe_case) {
  Numbers x = normal_numbers("x", {moe_case.batch.tokens(), moe_case.d_model});
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(moe_case.d_model)) x[i] = 20;
  return x;
}

std::vector<MoeCase> layout_cases() {
  const GlobalBatch ragged{.sequences = 8,
                           .length = 5,
                           .group_sequences = 1,
                           .real = real_tokens({5, -3, 4, 0, 5, 1, 2, 5}, 5)};
  MoeCase one_expert{.name = "all_tokens_to_one_expert", .capacity = {.tokens = 100}};
  one_expert.x = steered_x(one_expert);
  GlobalBatch last_smaller = ragged;
  last_smaller.group_sequences = 3;  // 3, 3, 2
  return {{.name = "experts_5_drops", .capacity = {.tokens = 1}},
          {.name = "experts_7_eight_groups_with_padding",
           .batch = ragged,
           .experts = 7,
           .capacity = {.tokens = 2},
           .jitter = 0.1},
          {.name = "experts_3_fewer_than_ranks", .batch = ragged, .experts = 3},
          {.name = "three_groups_the_last_smaller",
           .batch = last_smaller,
           .experts = 6,
           .capacity = {.tokens = 3}},
          {.name = "one_group", .batch = padded_batch(6), .capacity = {.tokens = 100}},
          {.name = "capacity_0", .capacity = {.tokens = 0}},
          {.name = "padding_takes_capacity",
           .batch = ragged,
           .capacity = {.tokens = 1, .padding_takes_capacity = true}},
          {.name = "kept_by_probability",
           .batch = last_smaller,
           .capacity = {.tokens = 2, .priority = CapacityRule::Priority::kProbability}},
          {.name = "kept_at_random_with_expert_dropout",
           .batch = last_smaller,
           .experts = 7,
           .capacity = {.tokens = 1,
                        .padding_takes_capacity = true,
                        .priority = CapacityRule::Priority::kRandom},
           .jitter = 0.1,
           .expert_dropout = 0.3},
          {.name = "global_scope",
           .batch = ragged,
           .capacity = {.tokens = 2},
           .losses = {.load_balance = 0.3,
                      .router_z = 0.2,
                      .load_balance_scope = AuxiliaryLosses::Scope::kGlobal}},
          one_expert};
}

class MoeLayouts : public testing::TestWithParam<MoeCase> {
 protected:
  // Every layout against one rank of the same backend.
  static void compare(const MoeCase& moe_case, const BackendUnderTest& backend, double tolerance) {
    MoeOnOneRank one(moe_case, backend.make());
    const Results reference = results_of(*one);
    for (const auto& [ranks, group_size] : {std::pair{1, 1},
                                            {2, 1},
                                            {2, 2},
                                            {3, 1},
                                            {3, 3},
                                            {4, 1},
                                            {4, 2},
                                            {4, 4},
                                            {8, 2},
                                            {8, 4},
                                            {8, 8}}) {
      SCOPED_TRACE(backend.name + " on " + std::to_string(ranks) + "x" +
                   std::to_string(group_size));
      std::vector<Results> results(static_cast<size_t>(ranks));
      run_threaded_ranks(ranks, [&, size = group_size](Collectives& world) {
        MoeRank rank(moe_case, backend.make(), world, size);
        results[static_cast<size_t>(world.rank())] = results_of(rank);
      });
      for (const Results& of_rank : results) expect_equal(of_rank, reference, tolerance);
    }
  }
};

TEST_P(MoeLayouts, AgreeWithOneRankInFloat64) {
  compare(GetParam(), {.name = "reference", .make = make_reference_kernels}, 1e-12);
}

TEST_P(MoeLayouts, AgreeWithOneRankInFloat32OnEveryBackend) {
  MoeCase moe_case = GetParam();
  moe_case.dtype = DType::kFloat32;
  for (const BackendUnderTest& backend : backends_under_test()) {
    if (backend.usable) compare(moe_case, backend, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(All, MoeLayouts, testing::ValuesIn(layout_cases()),
                         [](const auto& all) { return all.param.name; });

TEST(MoeLayoutCases, SteeredTokensAllGoToOneExpert) {
  for (const MoeCase& moe_case : layout_cases()) {
    MoeOnOneRank rank(moe_case, make_reference_kernels());
    rank->forward();
    rank->layer().observe(rank->ctx(), rank->rows(), rank->saved());
    const std::vector<double>& chosen = rank->layer().observation().chosen;
    const auto used = std::count_if(chosen.begin(), chosen.end(), [](double n) { return n > 0; });
    EXPECT_EQ(used == 1, moe_case.name == "all_tokens_to_one_expert") << moe_case.name;
  }
}

}  // namespace
}  // namespace switchyard::test
