// A MoE layer on one to four ranks with an emulated device each: the reference's outputs and
// gradients, and with ordered sums the same bits in every layout.
#include <gtest/gtest.h>

#include "backends/cuda/cuda_kernels.h"
#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "cuda_emulation/staged_collectives.h"
#include "moe/moe_case.h"
#include "optim/weight_replicas.h"

namespace switchyard::test {
namespace {

struct Results {
  Numbers y, dx, dgate, dwi, dwo;
};

// [E, ...] of the gradient of a stacked weight, what this rank holds set.
Numbers spread_experts(MoeRank& rank, Weight& weight) {
  const ExpertRange& range = weight.experts();
  const int64_t size = weight.shape()[1] * weight.shape()[2];
  Numbers all(static_cast<size_t>(range.total * size));
  if (rank.rank().groups().replica->rank() > 0) return all;
  const Numbers here = numbers_of(rank.ctx(), weight.gradient());
  std::copy(here.begin(), here.end(), all.begin() + range.first * size);
  return all;
}

Results results_of(MoeRank& rank) {
  Results results;
  results.y = rank.all_summed(rank.spread(rank.forward()));
  rank.backward();
  WeightReplicas(rank.rank().groups(), rank.layer().weights()).reduce_gradients(rank.ctx());
  results.dx = rank.all_summed(rank.spread(rank.dx()));
  results.dgate = numbers_of(rank.ctx(), rank.gate().gradient());
  results.dwi = rank.all_summed(spread_experts(rank, rank.wi()));
  results.dwo = rank.all_summed(spread_experts(rank, rank.wo()));
  return results;
}

// Of every rank.
std::vector<Results> on_emulated_ranks(const MoeCase& moe_case, int ranks, int expert_group_size) {
  std::vector<Results> results(static_cast<size_t>(ranks));
  run_threaded_ranks(ranks, [&](Collectives& threads) {
    StagedCollectives world(threads);
    MoeRank rank(moe_case, make_cuda_kernels(0), world, expert_group_size);
    results[static_cast<size_t>(world.rank())] = results_of(rank);
  });
  return results;
}

void expect_close(const Numbers& actual, const Numbers& expected, const char* name) {
  EXPECT_LE(relative_difference(actual, expected), 1e-5) << name;
}

constexpr std::pair<int, int> kLayouts[] = {{1, 1}, {2, 1}, {2, 2}, {3, 3}, {4, 2}, {4, 4}};

std::vector<MoeCase> layer_cases() {
  MoeCase in_rounds{.name = "dropless_rounds_in_chunks",
                    .batch = padded_batch(2),
                    .activation = Activation::kSilu,
                    .gated = true,
                    .capacity = {.overflow = CapacityRule::Overflow::kDropless},
                    .expert_dropout = 0.3,
                    .travel = {.chunks = 2, .max_rows_per_round = 64}};
  MoeCase random{.name = "kept_at_random_with_dropout_and_jitter",
                 .batch = padded_batch(3),
                 .experts = 7,
                 .capacity = {.tokens = 1, .priority = CapacityRule::Priority::kRandom},
                 .jitter = 0.1,
                 .expert_dropout = 0.3};
  MoeCase rerouted{.name = "rerouted",
                   .batch = padded_batch(1),
                   .capacity = {.tokens = 1, .overflow = CapacityRule::Overflow::kReroute}};
  MoeCase few{.name = "experts_3_fewer_than_ranks", .experts = 3};
  return {{.name = "drops", .capacity = {.tokens = 1}}, few, in_rounds, random, rerouted};
}

class EmulatedMoe : public testing::TestWithParam<MoeCase> {};

TEST_P(EmulatedMoe, AgreesWithTheReferenceOnOneToFourRanks) {
  MoeCase moe_case = GetParam();
  moe_case.dtype = DType::kFloat32;
  MoeOnOneRank one(moe_case, make_reference_kernels());
  const Results expected = results_of(*one);
  for (const auto& [ranks, group_size] : kLayouts) {
    SCOPED_TRACE(std::to_string(ranks) + "x" + std::to_string(group_size));
    for (const Results& results : on_emulated_ranks(moe_case, ranks, group_size)) {
      expect_close(results.y, expected.y, "y");
      expect_close(results.dx, expected.dx, "dx");
      expect_close(results.dgate, expected.dgate, "gate");
      expect_close(results.dwi, expected.dwi, "wi");
      expect_close(results.dwo, expected.dwo, "wo");
    }
  }
}

TEST_P(EmulatedMoe, OrderedSumsHaveTheSameBitsInEveryLayout) {
  MoeCase moe_case = GetParam();
  moe_case.dtype = DType::kFloat32;
  moe_case.ordered = true;
  const Results expected = on_emulated_ranks(moe_case, 1, 1).front();
  for (const auto& [ranks, group_size] : kLayouts) {
    SCOPED_TRACE(std::to_string(ranks) + "x" + std::to_string(group_size));
    for (const Results& results : on_emulated_ranks(moe_case, ranks, group_size)) {
      EXPECT_EQ(results.y, expected.y);
      EXPECT_EQ(results.dx, expected.dx);
      EXPECT_EQ(results.dgate, expected.dgate);
      EXPECT_EQ(results.dwi, expected.dwi);
      EXPECT_EQ(results.dwo, expected.dwo);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EmulatedMoe, testing::ValuesIn(layer_cases()),
                         [](const auto& all) { return all.param.name; });

}  // namespace
}  // namespace switchyard::test
