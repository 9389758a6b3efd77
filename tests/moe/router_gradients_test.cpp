// Every router in a whole MoE layer: its gradients against central differences in float64, and the
// same bits in every layout with ordered sums.
#include <gtest/gtest.h>

#include "collectives/threaded.h"
#include "moe/router_case.h"
#include "optim/weight_replicas.h"
#include "support/backends.h"
#include "support/finite_differences.h"

namespace switchyard::test {
namespace {

MoeCase with(MoeCase moe_case, const std::string& name, const AuxiliaryLosses& losses) {
  moe_case.name = name;
  moe_case.losses = losses;
  return moe_case;
}

MoeCase rerouted(MoeCase moe_case, const std::string& name, int64_t tokens) {
  moe_case.name = name;
  moe_case.capacity = {.tokens = tokens, .overflow = CapacityRule::Overflow::kReroute};
  return moe_case;
}

std::vector<MoeCase> router_cases() {
  const AuxiliaryLosses all{.load_balance = 0.3, .router_z = 0.2, .importance = 0.4, .load = 0.5};
  const AuxiliaryLosses z{.router_z = 0.2};
  TopKRouterOptions deep_seek;
  deep_seek.top_k = 4;
  deep_seek.score = TopKRouterOptions::Score::kSigmoid;
  deep_seek.scale = 2.5;
  deep_seek.groups = {};
  deep_seek.groups.count = 3;
  deep_seek.groups.top = 2;
  const MoeCase noisy =
      with(router_case<NoisyTopKRouter>("", noisy_top_k_options(2)), "noisy_top_k", all);
  const MoeCase gshard = with(router_case<GShardRouter>("", GShardRouterOptions()), "gshard", all);
  TopKRouterOptions mixtral;
  MoeCase shared = with(router_case<TopKRouter>("", mixtral), "shared_experts", all);
  shared.besides = MoeCase::Besides::kShared;
  MoeCase residual = with(shared, "residual", all);
  residual.besides = MoeCase::Besides::kResidual;
  MoeCase evaluation = noisy;
  evaluation.name = "noisy_top_k_in_evaluation";
  evaluation.training = false;
  MoeCase expert_choice = router_case<ExpertChoiceRouter>("", expert_choice_options(2));
  expert_choice.capacity.tokens = 3;
  return {with(router_case<TopKRouter>("", deep_seek), "top_k_sigmoid_in_groups", all),
          shared,
          residual,
          noisy,
          evaluation,
          rerouted(noisy, "noisy_top_k_rerouted", 3),
          gshard,
          rerouted(gshard, "gshard_rerouted", 3),
          with(expert_choice, "expert_choice", z),
          with(router_case<HashRouter>("", HashRouterOptions()), "hash", {}),
          with(router_case<SinkhornRouter>("", sinkhorn_options(1, 8)), "sinkhorn", z),
          with(router_case<SinkhornRouter>("", sinkhorn_options(2, 8)), "sinkhorn_top_2", z),
          with(router_case<HierarchicalRouter>("", hierarchical_options(3, 2, 2, false)),
               "hierarchical", all),
          with(router_case<HierarchicalRouter>("", hierarchical_options(2, 2, 4, true)),
               "hierarchical_normalized", all),
          with(router_case<SoftRouter>("", SoftRouterOptions(), 3), "soft", {})};
}

// Projection of the outputs plus the losses' values as they are reported.
double objective(MoeRank& rank) {
  const Numbers y = numbers_of(rank.ctx(), rank.forward()), dy = numbers_of(rank.ctx(), rank.dy());
  MoeObservation& seen = rank.layer().observation();
  seen.clear();
  rank.layer().observe(rank.ctx(), rank.rows(), rank.saved());
  const double here = std::inner_product(y.begin(), y.end(), dy.begin(), 0.0) + seen.load_balance +
                      seen.router_z + seen.importance + seen.load;
  return rank.all_summed({here}).front();
}

void check_gradients(const MoeCase& moe_case, MoeRank& rank) {
  objective(rank);
  rank.backward();
  const std::vector<Weight*> weights = rank.layer().weights();
  WeightReplicas(rank.rank().groups(), weights).reduce_gradients(rank.ctx());
  std::vector<Differentiated> tensors = {
      differentiated_rows("x", moe_case.batch.tokens(), rank.first_token(), rank.x(), rank.dx())};
  // Experts of tokens are differentiated elsewhere, those of slots here.
  for (Weight* weight : weights) {
    if (!weight->is_expert() || moe_case.name == "soft") {
      tensors.push_back(differentiated(*weight));
    }
  }
  expect_gradients(tensors, [&] { return objective(rank); });
}

class Routers : public testing::TestWithParam<MoeCase> {};

TEST_P(Routers, MatchFiniteDifferences) {
  MoeOnOneRank rank(GetParam(), make_reference_kernels());
  check_gradients(GetParam(), *rank);
}

TEST_P(Routers, MatchFiniteDifferencesOnTwoRanks) {
  run_threaded_ranks(2, [&](Collectives& world) {
    MoeRank rank(GetParam(), make_reference_kernels(), world, 2);
    check_gradients(GetParam(), rank);
  });
}

// y, dx and the gradients of the router's weights.
//   recomputes  drops the activations and computes them again from the decisions
std::vector<Numbers> results_of(MoeRank& rank, bool recomputes = false) {
  TensorView y = rank.forward();
  if (recomputes) {
    rank.ctx().saved.release_all();
    rank.ctx().replay = true;
    y = rank.layer().forward(rank.ctx(), rank.rows(), rank.x(), rank.saved());
  }
  std::vector<Numbers> results = {rank.all_summed(rank.spread(y))};
  rank.backward();
  WeightReplicas(rank.rank().groups(), rank.layer().weights()).reduce_gradients(rank.ctx());
  results.push_back(rank.all_summed(rank.spread(rank.dx())));
  for (Weight* weight : rank.layer().weights()) {
    if (!weight->is_expert()) results.push_back(numbers_of(rank.ctx(), weight->gradient()));
  }
  return results;
}

TEST_P(Routers, RecomputeTheSame) {
  MoeOnOneRank one(GetParam(), make_reference_kernels()),
      again(GetParam(), make_reference_kernels());
  EXPECT_EQ(results_of(*again, true), results_of(*one));
}

// Three routing groups: with four ranks one has no token.
TEST_P(Routers, HaveTheBitsOfOneRank) {
  MoeCase moe_case = GetParam();
  moe_case.dtype = DType::kFloat32;
  moe_case.ordered = true;
  moe_case.expert_dropout = 0.2;
  for (const BackendUnderTest& backend : backends_under_test()) {
    if (!backend.usable) continue;
    MoeOnOneRank one(moe_case, backend.make());
    const std::vector<Numbers> reference = results_of(*one);
    for (const auto& [ranks, group_size] : {std::pair{2, 2}, {3, 1}, {4, 2}, {4, 4}}) {
      SCOPED_TRACE(backend.name + " on " + std::to_string(ranks) + "x" +
                   std::to_string(group_size));
      std::vector<std::vector<Numbers>> results(static_cast<size_t>(ranks));
      run_threaded_ranks(ranks, [&, size = group_size](Collectives& world) {
        MoeRank rank(moe_case, backend.make(), world, size);
        results[static_cast<size_t>(world.rank())] = results_of(rank);
      });
      for (const auto& of_rank : results) EXPECT_EQ(of_rank, reference);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Routers, testing::ValuesIn(router_cases()),
                         [](const auto& all) { return all.param.name; });

}  // namespace
}  // namespace switchyard::test
