// What a MoE layer says that it did, against a count by hand; and forward called again.
#include "moe/observation.h"

#include <gtest/gtest.h>

#include <array>
#include <mutex>
#include <numeric>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "moe/moe_case.h"

namespace switchyard::test {
namespace {

MoeCase observed_case(bool padding_takes_capacity) {
  return {.batch = padded_batch(2),
          .capacity = {.tokens = 1, .padding_takes_capacity = padding_takes_capacity}};
}

// A MoeObservation of the whole batch, from the router's logits alone.
MoeObservation observed_by_hand(const MoeCase& moe_case, const Numbers& logits) {
  const auto experts = static_cast<size_t>(moe_case.experts);
  const RoutingByHand real =
      route_by_hand(logits, moe_case.experts, moe_case.batch, *moe_case.capacity.tokens);
  GlobalBatch unmasked = moe_case.batch;
  if (moe_case.capacity.padding_takes_capacity) unmasked.real.clear();
  const RoutingByHand routed =
      route_by_hand(logits, moe_case.experts, unmasked, *moe_case.capacity.tokens);
  MoeObservation expected(moe_case.experts, 1);
  for (size_t t = 0; t < routed.kept.size(); ++t) {
    expected.rows_computed += routed.kept[t] >= 0;
    if (moe_case.batch.real[t] == 0) continue;
    const auto chosen = static_cast<size_t>(routed.chosen[t]);
    const double weight = routed.probability[t * experts + chosen];
    const bool dropped = routed.kept[t] < 0;
    expected.tokens += 1;
    expected.chosen[chosen] += 1;
    expected.kept[chosen] += dropped ? 0 : 1;
    for (size_t e = 0; e < experts; ++e) {
      expected.probability[e] += routed.probability[t * experts + e];
    }
    expected.dropped_by_choice[0] += dropped ? 1 : 0;
    expected.weight += weight;
    expected.weight_lost += dropped ? weight : 0;
  }
  expected.entropy = real.entropy;
  expected.top_probability = real.top_probability;
  expected.load_balance = moe_case.losses.load_balance * real.load_balance;
  expected.router_z = moe_case.losses.router_z * real.router_z;
  return expected;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], 1e-12) << "field " << i;
  }
}

TEST(MoeObservation, EqualsACountByHand) {
  for (const bool padding : {false, true}) {
    const MoeCase moe_case = observed_case(padding);
    MoeOnOneRank rank(moe_case, make_reference_kernels());
    rank->forward();
    rank->backward();
    rank->layer().observe(rank->ctx(), rank->rows(), rank->saved());
    const MoeObservation expected =
        observed_by_hand(moe_case, numbers_of(rank->ctx(), rank->saved().routing->logits));
    ASSERT_GT(expected.weight_lost, 0);
    ASSERT_LT(expected.weight_lost, expected.weight);
    expect_near(rank->layer().observation().pack(), expected.pack());
  }
}

TEST(MoeObservation, AddsUpOverMicroBatchesUntilCleared) {
  const MoeCase moe_case = observed_case(false);
  MoeOnOneRank rank(moe_case, make_reference_kernels());
  rank->forward();
  std::vector<double> twice =
      observed_by_hand(moe_case, numbers_of(rank->ctx(), rank->saved().routing->logits)).pack();
  for (double& value : twice) value *= 2;
  for (int i = 0; i < 2; ++i) rank->layer().observe(rank->ctx(), rank->rows(), rank->saved());
  MoeObservation& observation = rank->layer().observation();
  expect_near(observation.pack(), twice);
  observation.clear();
  expect_near(observation.pack(), std::vector<double>(twice.size()));
}

TEST(MoeObservation, PacksAndUnpacksEveryField) {
  MoeObservation observation(3, 2);
  std::vector<double> numbers(observation.pack().size());
  ASSERT_EQ(numbers.size(), 3u + 3u + 3u + 2u + 13u);
  observation.clear(4);
  EXPECT_EQ(observation.pack().size(), numbers.size() + 4u * 3u);
  observation.clear();
  EXPECT_EQ(observation.pack().size(), numbers.size());
  std::iota(numbers.begin(), numbers.end(), 1.0);
  observation.unpack(numbers);
  EXPECT_EQ(observation.pack(), numbers);
  EXPECT_EQ(observation.chosen, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(observation.kept, (std::vector<double>{4, 5, 6}));
  EXPECT_EQ(observation.probability, (std::vector<double>{7, 8, 9}));
  EXPECT_EQ(observation.dropped_by_choice, (std::vector<double>{10, 11}));
  EXPECT_EQ(observation.tokens, 12);
}

// Rows that leave a rank, counted from the choices by what each kind of dispatch does with a row.
TEST(MoeObservation, CountsRowsAndBytesThatLeave) {
  MoeCase moe_case = observed_case(false);
  for (const auto kind :
       {Travel::Kind::kAllToAll, Travel::Kind::kAllGather, Travel::Kind::kHierarchical}) {
    for (const bool rounds : {false, true}) {
      moe_case.travel = {.kind = kind};
      if (rounds) moe_case.travel.max_rows_per_round = 64;
      std::array<double, 4> leaving{}, counted{}, bytes{}, again{};
      run_threaded_ranks(4, [&](Collectives& world) {
        MoeRank rank(moe_case, make_reference_kernels(), world, 4);
        rank.forward();
        rank.layer().observe(rank.ctx(), rank.rows(), rank.saved());
        const auto here = static_cast<size_t>(world.rank());
        const auto kept = read_back_as<int32_t>(rank.ctx(), rank.saved().kept);
        std::array<double, 4> sent{};
        for (const int32_t expert : kept) {
          for (int to = 0; to < 4 && expert >= 0; ++to) {
            const ExpertRange there = experts_of_rank(moe_case.experts, 4, to);
            sent[static_cast<size_t>(to)] +=
                expert >= there.first && expert < there.first + there.count;
          }
        }
        // Two nodes of two ranks: a row goes to the neighbour if its place is the receiver's, and
        // to the other node from whoever is at that place.
        static std::mutex mutex;
        const std::lock_guard lock(mutex);
        for (size_t to = 0; to < 4; ++to) {
          const size_t at_place = here / 2 * 2 + to % 2;
          if (kind == Travel::Kind::kAllToAll && to != here) leaving[here] += sent[to];
          if (kind == Travel::Kind::kAllGather) leaving[here] += 3 * sent[to];
          if (kind != Travel::Kind::kHierarchical) continue;
          if (at_place != here) leaving[here] += sent[to];
          if (to / 2 != here / 2) leaving[at_place] += sent[to];
        }
        counted[here] = rank.layer().observation().rows_sent;
        bytes[here] = rank.layer().observation().bytes_sent;
        again[here] = rank.layer().observation().bytes_sent_again;
      });
      EXPECT_GT(leaving[0], 0);
      for (size_t rank = 0; rank < 4; ++rank) {
        EXPECT_EQ(counted[rank], leaving[rank]) << "rank " << rank << ", kind " << int(kind);
        EXPECT_EQ(bytes[rank], leaving[rank] * 4 * sizeof(double));
        EXPECT_EQ(again[rank], rounds ? bytes[rank] : 0);
      }
    }
  }
}

// Forward again for a micro-batch whose activations were dropped: the same output and gradients,
// decisions, statistics and observations untouched.
void check_replay(MoeRank& rank, const MoeCase& moe_case) {
  const Numbers y = numbers_of(rank.ctx(), rank.forward());
  rank.backward();
  const Numbers dx = numbers_of(rank.ctx(), rank.dx());
  const Numbers dwi = numbers_of(rank.ctx(), rank.wi().gradient());
  rank.layer().observe(rank.ctx(), rank.rows(), rank.saved());
  const std::vector<double> observation = rank.layer().observation().pack();
  MoeLayer::Saved& saved = rank.saved();
  const void* const statistics = saved.statistics.tokens.raw();
  const void* const kept = saved.kept.raw();
  const auto tokens = read_back_as<int64_t>(rank.ctx(), saved.statistics.tokens);

  // Decisions that the router itself would not make show that the saved ones are used.
  auto forced = read_back_as<int32_t>(rank.ctx(), saved.routing->expert);
  rank.ctx().replay = true;
  const TensorView again = rank.layer().forward(rank.ctx(), rank.rows(), rank.x(), saved);
  EXPECT_EQ(numbers_of(rank.ctx(), again), y);
  EXPECT_EQ(read_back_as<int32_t>(rank.ctx(), saved.routing->expert), forced);
  EXPECT_EQ(saved.statistics.tokens.raw(), statistics);
  EXPECT_EQ(saved.kept.raw(), kept);
  EXPECT_EQ(read_back_as<int64_t>(rank.ctx(), saved.statistics.tokens), tokens);
  EXPECT_EQ(rank.layer().observation().pack(), observation);
  rank.backward();
  EXPECT_EQ(numbers_of(rank.ctx(), rank.dx()), dx);
  EXPECT_EQ(numbers_of(rank.ctx(), rank.wi().gradient()), dwi);

  const auto experts = static_cast<int32_t>(moe_case.experts);
  for (int32_t& expert : forced) expert = expert < 0 ? -1 : (expert + 1) % experts;
  upload<int32_t>(rank.ctx(), forced, saved.routing->expert);
  upload<int32_t>(rank.ctx(), forced, saved.kept);
  EXPECT_NE(numbers_of(rank.ctx(), rank.layer().forward(rank.ctx(), rank.rows(), rank.x(), saved)),
            y);
  EXPECT_EQ(read_back_as<int32_t>(rank.ctx(), saved.routing->expert), forced);
}

TEST(MoeReplay, UsesSavedDecisionsAndTouchesNothingTwice) {
  for (const bool padding : {false, true}) {
    MoeCase moe_case = observed_case(padding);
    moe_case.jitter = 0.1;
    moe_case.expert_dropout = 0.3;
    moe_case.capacity.priority = CapacityRule::Priority::kRandom;
    MoeOnOneRank rank(moe_case, make_reference_kernels());
    check_replay(*rank, moe_case);
    run_threaded_ranks(2, [&](Collectives& world) {
      MoeRank part(moe_case, make_reference_kernels(), world, 2);
      check_replay(part, moe_case);
    });
  }
}

}  // namespace
}  // namespace switchyard::test
