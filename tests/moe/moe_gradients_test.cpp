// The gradients of a whole MoE layer against central differences in float64, on one rank and on
// several: the loss is a projection of all ranks' outputs plus the auxiliary losses.
#include <gtest/gtest.h>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "moe/moe_case.h"
#include "optim/weight_replicas.h"
#include "support/finite_differences.h"

namespace switchyard::test {
namespace {

// Two best experts that are nearly equal would swap under a small change.
void expect_no_near_ties(MoeRank& rank, const MoeCase& moe_case) {
  const Numbers probs = numbers_of(rank.ctx(), rank.saved().routing->probs);
  const auto experts = static_cast<size_t>(moe_case.experts);
  for (size_t t = 0; t < probs.size() / experts; ++t) {
    Numbers row(&probs[t * experts], &probs[t * experts] + experts);
    std::sort(row.begin(), row.end());
    EXPECT_GT(row[experts - 1] - row[experts - 2], 1e-3) << "token " << t;
  }
}

void check_gradients(const MoeCase& moe_case, MoeRank& rank) {
  rank.objective();
  expect_no_near_ties(rank, moe_case);
  rank.backward();
  WeightReplicas(rank.rank().groups(), rank.layer().weights()).reduce_gradients(rank.ctx());
  std::vector<Differentiated> tensors = {
      differentiated_rows("x", moe_case.batch.tokens(), rank.first_token(), rank.x(), rank.dx())};
  for (Weight* weight : rank.layer().weights()) tensors.push_back(differentiated(*weight));
  expect_gradients(tensors, [&] { return rank.objective(); });
}

void check_gradients_on(int ranks, int expert_group_size, const MoeCase& moe_case, int slices = 1) {
  run_threaded_ranks(ranks, [&](Collectives& world) {
    MoeRank rank(moe_case, make_reference_kernels(), world, expert_group_size, slices);
    check_gradients(moe_case, rank);
  });
}

class MoeGradients : public testing::TestWithParam<MoeCase> {};

TEST_P(MoeGradients, MatchFiniteDifferencesOnOneRank) {
  MoeOnOneRank rank(GetParam(), make_reference_kernels());
  check_gradients(GetParam(), *rank);
}

TEST_P(MoeGradients, MatchFiniteDifferencesOnTwoRanks) { check_gradients_on(2, 2, GetParam()); }

TEST_P(MoeGradients, MatchFiniteDifferencesOnTwoReplicas) { check_gradients_on(2, 1, GetParam()); }

TEST_P(MoeGradients, MatchFiniteDifferencesOnThreeRanks) { check_gradients_on(3, 3, GetParam()); }

TEST_P(MoeGradients, MatchFiniteDifferencesOnTwoSlices) { check_gradients_on(2, 2, GetParam(), 2); }

INSTANTIATE_TEST_SUITE_P(
    All, MoeGradients,
    testing::Values(
        MoeCase{.name = "no_drops", .capacity = {.tokens = 100}},
        MoeCase{.name = "drops", .activation = Activation::kGelu, .capacity = {.tokens = 1}},
        MoeCase{.name = "groups_of_two_with_padding",
                .batch = padded_batch(2),
                .capacity = {.tokens = 2}},
        MoeCase{.name = "padding_takes_capacity",
                .batch = padded_batch(2),
                .capacity = {.tokens = 2, .padding_takes_capacity = true}},
        MoeCase{.name = "capacity_0", .capacity = {.tokens = 0}},
        MoeCase{.name = "expert_dropout",
                .batch = padded_batch(2),
                .activation = Activation::kSilu,
                .capacity = {.tokens = 3, .priority = CapacityRule::Priority::kRandom},
                .expert_dropout = 0.3},
        MoeCase{.name = "kept_by_probability",
                .batch = padded_batch(3),
                .activation = Activation::kGelu,
                .capacity = {.tokens = 2, .priority = CapacityRule::Priority::kProbability}},
        MoeCase{.name = "rerouted",
                .batch = padded_batch(3),
                .activation = Activation::kGelu,
                .gated = true,
                .capacity = {.tokens = 2, .overflow = CapacityRule::Overflow::kReroute}},
        MoeCase{.name = "dropless_in_rounds_and_chunks",
                .batch = padded_batch(2),
                .activation = Activation::kSilu,
                .gated = true,
                .capacity = {.overflow = CapacityRule::Overflow::kDropless},
                .expert_dropout = 0.3,
                .travel = {.chunks = 2, .max_rows_per_round = 64}},
        MoeCase{.name = "global_scope",
                .batch = padded_batch(2),
                .capacity = {.tokens = 2},
                .losses = {.load_balance = 0.3,
                           .router_z = 0.2,
                           .load_balance_scope = AuxiliaryLosses::Scope::kGlobal}},
        MoeCase{.name = "jitter_without_losses",
                .activation = Activation::kSilu,
                .capacity = {.tokens = 3},
                .losses = {},
                .jitter = 0.2},
        MoeCase{.name = "evaluation",
                .batch = padded_batch(3),
                .capacity = {.train_factor = 100, .eval_factor = 0.7, .min_tokens = 1},
                .jitter = 0.2,
                .training = false}),
    [](const auto& all) { return all.param.name; });

}  // namespace
}  // namespace switchyard::test
