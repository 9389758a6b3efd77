// A MoE layer gives the same outputs, gradients and observations on any ranks as on one.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "moe/memory_plan.h"
#include "moe/moe_case.h"
#include "optim/weight_replicas.h"
#include "support/backends.h"

namespace switchyard::test {
namespace {

// A layer's results over the whole batch.
struct Results {
  Numbers y, dx, dgate, dwi, dwo, dwg, observation;
};

// [E, ...] of the gradient of a stacked weight, what this rank holds set. Every holder of a replica
// has the same sum, so only the first expert group contributes.
Numbers spread_experts(MoeRank& rank, Weight& weight) {
  const ExpertRange& range = weight.experts();
  const ElementRuns runs = weight.runs();
  Numbers all(static_cast<size_t>(range.total * runs.count * runs.stride));
  if (rank.rank().groups().replica->rank() > 0) return all;
  const Numbers here = numbers_of(rank.ctx(), weight.gradient());
  auto to = all.begin() + range.first * runs.count * runs.stride + runs.first;
  for (auto from = here.begin(); from != here.end(); from += runs.length, to += runs.stride) {
    std::copy(from, from + runs.length, to);
  }
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
  if (rank.wg()) results.dwg = rank.all_summed(spread_experts(rank, *rank.wg()));
  MoeObservation observation = rank.layer().observation();
  // The only ones that depend on the layout and the way of travel.
  observation.rows_sent = observation.bytes_sent = observation.bytes_sent_again = 0;
  results.observation = rank.all_summed(observation.pack());
  return results;
}

// Bit by bit, but for sums in the order of ranks (the observation, which the trainer orders).
void expect_identical(const Results& results, const Results& reference) {
  EXPECT_EQ(results.y, reference.y);
  EXPECT_EQ(results.dx, reference.dx);
  EXPECT_EQ(results.dgate, reference.dgate);
  EXPECT_EQ(results.dwi, reference.dwi);
  EXPECT_EQ(results.dwo, reference.dwo);
  EXPECT_EQ(results.dwg, reference.dwg);
}

void expect_equal(const Results& results, const Results& reference, double tolerance) {
  EXPECT_LE(relative_difference(results.y, reference.y), tolerance) << "y";
  EXPECT_LE(relative_difference(results.dx, reference.dx), tolerance) << "dx";
  EXPECT_LE(relative_difference(results.dgate, reference.dgate), tolerance) << "gate";
  EXPECT_LE(relative_difference(results.dwi, reference.dwi), tolerance) << "wi";
  EXPECT_LE(relative_difference(results.dwo, reference.dwo), tolerance) << "wo";
  EXPECT_LE(relative_difference(results.dwg, reference.dwg), tolerance) << "wg";
  ASSERT_EQ(results.observation.size(), reference.observation.size());
  for (size_t i = 0; i < reference.observation.size(); ++i) {
    EXPECT_NEAR(results.observation[i], reference.observation[i],
                10 * tolerance * std::max(1.0, std::abs(reference.observation[i])))
        << "field " << i << " of the observation";
  }
}

// Puts a large column into x, so that the gate can be made to send tokens wherever it likes.
Numbers steered_x(const MoeCase& moe_case, double column = 20, double others = 1) {
  Numbers x = normal_numbers("x", {moe_case.batch.tokens(), moe_case.d_model}, others);
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(moe_case.d_model)) x[i] = column;
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
          {.name = "rerouted",
           .batch = ragged,
           .capacity = {.tokens = 1, .overflow = CapacityRule::Overflow::kReroute}},
          {.name = "rerouted_at_random_with_padding_and_expert_dropout",
           .batch = last_smaller,
           .experts = 3,
           .capacity = {.tokens = 5,
                        .padding_takes_capacity = true,
                        .priority = CapacityRule::Priority::kRandom,
                        .overflow = CapacityRule::Overflow::kReroute},
           .expert_dropout = 0.3},
          {.name = "dropless_rounds_in_chunks",
           .batch = last_smaller,
           .activation = Activation::kSilu,
           .gated = true,
           .capacity = {.overflow = CapacityRule::Overflow::kDropless},
           .expert_dropout = 0.3,
           .travel = {.chunks = 2, .max_rows_per_round = 64}},
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
    constexpr struct {
      int ranks, group_size, slices = 1;
    } kLayouts[] = {{1, 1},    {2, 1},    {2, 2},    {3, 1},    {3, 3},    {4, 1},
                    {4, 2},    {4, 4},    {8, 2},    {8, 4},    {8, 8},    {2, 2, 2},
                    {3, 3, 3}, {4, 2, 2}, {4, 4, 2}, {6, 6, 2}, {6, 6, 3}, {6, 3, 3}};
    for (const auto& layout : kLayouts) {
      const int ranks = layout.ranks;
      SCOPED_TRACE(backend.name + " on " + std::to_string(ranks) + "x" +
                   std::to_string(layout.group_size) + "x" + std::to_string(layout.slices));
      std::vector<Results> results(static_cast<size_t>(ranks));
      run_threaded_ranks(ranks, [&](Collectives& world) {
        MoeRank rank(moe_case, backend.make(), world, layout.group_size, layout.slices);
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

// Rows of one expert and leaf that fill more than a block; a rank without tokens on 8 ranks.
MoeCase travelling_case() {
  MoeCase moe_case{.name = "travelling",
                   .batch = {.sequences = 10, .length = 45, .group_sequences = 2},
                   .experts = 3,
                   .activation = Activation::kSilu,
                   .gated = true,
                   .capacity = {.overflow = CapacityRule::Overflow::kDropless},
                   .expert_dropout = 0.2,
                   .dtype = DType::kFloat32,
                   .ordered = true};
  moe_case.batch.real = real_tokens({45, -40, 45, 0, 45, 1, 30, 45, 45, 45}, 45);
  return moe_case;
}

std::vector<Travel> travels(bool wire_bfloat16) {
  std::vector<Travel> all;
  for (const auto kind :
       {Travel::Kind::kAllToAll, Travel::Kind::kAllGather, Travel::Kind::kHierarchical}) {
    for (const auto& [chunks, rounds] :
         {std::pair<int64_t, std::optional<int64_t>>{1, {}}, {2, {}}, {4, {}}, {1, 64}, {2, 100}}) {
      all.push_back({kind, chunks, rounds, wire_bfloat16});
    }
  }
  return all;
}

// However rows travel, ordered sums have the bits of one rank and one all-to-all.
class MoeTravel : public testing::TestWithParam<bool> {};

// The reference and the widest instruction set: that a row's bits don't depend on its neighbours is
// tested for each (row_stability_test.cpp).
std::vector<BackendUnderTest> two_backends() {
  std::vector<BackendUnderTest> all = backends_under_test();
  std::erase_if(all, [](const BackendUnderTest& backend) { return !backend.usable; });
  all.resize(2);
  return all;
}

TEST_P(MoeTravel, HasTheBitsOfOneAllToAllOnOneRank) {
  const bool wire_bfloat16 = GetParam();
  std::vector<std::pair<int, int>> layouts = {{1, 1}, {2, 2}, {3, 3}, {4, 2}, {4, 4}, {8, 8}};
  if (wire_bfloat16) layouts = {{3, 3}, {4, 4}};
  for (const bool one_expert : {false, true}) {
    MoeCase moe_case = travelling_case();
    if (one_expert) moe_case.x = steered_x(moe_case);
    for (const BackendUnderTest& backend : two_backends()) {
      moe_case.travel = {.wire_bfloat16 = wire_bfloat16};
      MoeOnOneRank one(moe_case, backend.make());
      const Results reference = results_of(*one);
      for (const Travel& travel : travels(wire_bfloat16)) {
        moe_case.travel = travel;
        for (const auto& [ranks, group_size] : layouts) {
          SCOPED_TRACE(backend.name + " on " + std::to_string(ranks) + "x" +
                       std::to_string(group_size) + ", " + testing::PrintToString(travel));
          std::vector<Results> results(static_cast<size_t>(ranks));
          run_threaded_ranks(ranks, [&, size = group_size](Collectives& world) {
            MoeRank rank(moe_case, backend.make(), world, size);
            results[static_cast<size_t>(world.rank())] = results_of(rank);
          });
          for (const Results& of_rank : results) expect_identical(of_rank, reference);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MoeTravel, testing::Bool(), [](const auto& wire_bfloat16) {
  return wire_bfloat16.param ? "bfloat16_on_the_wire" : "same_on_the_wire";
});

// Rounding on the wire is there, and is what it says: to bfloat16's 8 bits.
TEST(MoeTravelCases, BFloat16OnTheWireRounds) {
  MoeCase moe_case = travelling_case();
  MoeOnOneRank same(moe_case, make_reference_kernels());
  moe_case.travel.wire_bfloat16 = true;
  MoeOnOneRank rounded(moe_case, make_reference_kernels());
  const double difference = relative_difference(results_of(*rounded).y, results_of(*same).y);
  EXPECT_GT(difference, 1e-4);
  EXPECT_LT(difference, 2e-2);
}

// Ranks with slices of the same experts keep in step, though they receive different numbers of rows
// and, by themselves, would need different numbers of rounds.
TEST(MoeTravelCases, SlicesAgreeWithOneRankHoweverRowsTravel) {
  for (const bool one_expert : {false, true}) {
    MoeCase moe_case = travelling_case();
    moe_case.dtype = DType::kFloat64;
    moe_case.ordered = false;
    if (one_expert) moe_case.x = steered_x(moe_case);
    MoeOnOneRank one(moe_case, make_reference_kernels());
    const Results reference = results_of(*one);
    for (const Travel& travel : travels(false)) {
      moe_case.travel = travel;
      for (const auto& [ranks, slices] : {std::pair{4, 2}, {6, 3}, {8, 2}}) {
        SCOPED_TRACE(std::to_string(ranks) + " ranks, " + std::to_string(slices) + " slices, " +
                     testing::PrintToString(travel));
        std::vector<Results> results(static_cast<size_t>(ranks));
        run_threaded_ranks(ranks, [&, size = ranks, parts = slices](Collectives& world) {
          MoeRank rank(moe_case, make_reference_kernels(), world, size, parts);
          results[static_cast<size_t>(world.rank())] = results_of(rank);
        });
        for (const Results& of_rank : results) expect_equal(of_rank, reference, 1e-12);
      }
    }
  }
}

// All tokens to one expert, a ceiling of an eighth of them: arenas of the planned sizes are enough
// on every rank, and the result is that of one round.
void check_planned_bytes(int slices, bool gated) {
  MoeCase moe_case = travelling_case();
  moe_case.gated = gated;
  moe_case.batch = {.sequences = 16, .length = 64, .group_sequences = 2};
  moe_case.d_model = 32;
  moe_case.d_ff = 64;
  moe_case.x = steered_x(moe_case, 200, 0.1);
  moe_case.ordered = slices == 1;
  const int64_t groups_of_slice = moe_case.batch.groups() / slices;
  MoeOnOneRank one(moe_case, make_reference_kernels());
  const Results reference = results_of(*one);
  for (const BackendUnderTest& backend : two_backends()) {
    for (const Travel& travel : travels(false)) {
      moe_case.travel = travel;
      if (travel.max_rows_per_round) {
        moe_case.travel.max_rows_per_round = moe_case.batch.tokens() / 8;
      }
      SCOPED_TRACE(backend.name + ", " + testing::PrintToString(moe_case.travel));
      std::array<size_t, 4> planned{}, measured{};
      run_threaded_ranks(4, [&](Collectives& world) {
        MoeRank rank(moe_case, backend.make(), world, 4, slices);
        const MoeLayerBytes bytes =
            planned_bytes({.tokens = rank.rows().tokens(),
                           .groups = rank.rows().groups(),
                           .tokens_of_group = moe_case.batch.tokens() / slices,
                           .groups_of_group = groups_of_slice,
                           .experts = moe_case.experts,
                           .d_model = moe_case.d_model,
                           .d_ff = moe_case.d_ff,
                           .expert_dropout = true,
                           .gated = gated},
                          rank.layer().exchange(), rank.rank().groups());
        Arena saved(rank.rank().memory(), static_cast<size_t>(bytes.saved));
        Arena decisions(rank.rank().memory(), static_cast<size_t>(bytes.decisions));
        Arena scratch(rank.rank().memory(), static_cast<size_t>(bytes.scratch));
        const LayerContext& with = rank.ctx();
        LayerContext ctx{{.kernels = with.kernels,
                          .stream = with.stream,
                          .scratch = scratch,
                          .ordered = with.ordered},
                         saved,
                         decisions,
                         with.groups,
                         /*training=*/true};
        const TensorView y = rank.layer().forward(ctx, rank.rows(), rank.x(), rank.saved());
        for (Weight* weight : rank.layer().weights()) weight->begin_step();
        rank.layer().backward(ctx, rank.rows(), rank.x(), rank.saved(), rank.dy(), rank.dx());
        EXPECT_EQ(rank.saved().experts.plan.rounds, travel.max_rows_per_round ? 8 / slices : 1);
        const ReusedVector<int64_t>& counts = rank.saved().experts.plan.counts.rows;
        EXPECT_EQ(*std::max_element(counts.begin(), counts.end()) * groups_of_slice,
                  std::accumulate(counts.begin(), counts.end(), int64_t{0}));
        EXPECT_LE(saved.high_water_bytes(), static_cast<size_t>(bytes.saved));
        EXPECT_LE(decisions.high_water_bytes(), static_cast<size_t>(bytes.decisions));
        EXPECT_LE(scratch.high_water_bytes(), static_cast<size_t>(bytes.scratch));
        const auto here = static_cast<size_t>(world.rank());
        planned[here] = static_cast<size_t>(bytes.total());
        measured[here] =
            saved.high_water_bytes() + decisions.high_water_bytes() + scratch.high_water_bytes();
        if (backend.name == "reference" && slices == 1) {
          EXPECT_EQ(rank.all_summed(rank.spread(y)), reference.y);
          EXPECT_EQ(rank.all_summed(rank.spread(rank.dx())), reference.dx);
        }
      });
      // The plan is not loose either.
      EXPECT_LT(*std::max_element(planned.begin(), planned.end()),
                3 * *std::max_element(measured.begin(), measured.end()));
    }
  }
}

TEST(MoeRounds, StayBelowThePlannedBytes) { check_planned_bytes(1, false); }

TEST(MoeRounds, StayBelowThePlannedBytesWithSlices) { check_planned_bytes(2, false); }

TEST(MoeRounds, StayBelowThePlannedBytesWhereExpertsAreGated) {
  check_planned_bytes(1, true);
  check_planned_bytes(2, true);
}

}  // namespace
}  // namespace switchyard::test
