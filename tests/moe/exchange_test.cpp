// Exchange on threaded ranks: every kept row arrives once, at the right expert, in the order of
// the global batch, and comes back to its owner.
#include "moe/exchange.h"

#include <gtest/gtest.h>

#include <functional>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "moe/moe_case.h"

namespace switchyard::test {
namespace {

// Kept choices of a global batch: what each rank is told about its own tokens.
struct ExchangeCase {
  std::string name;
  int64_t experts = 1, choices = 1;
  GlobalBatch batch;
  std::vector<int32_t> kept;  // [T, K]
};

void PrintTo(const ExchangeCase& test_case, std::ostream* out) { *out << test_case.name; }

// Random experts, a fifth of the choices dropped; the K choices of a token may coincide, which
// no router does but the exchange doesn't mind.
ExchangeCase random_case(int64_t experts, int64_t choices, int64_t sequences, int64_t per_group,
                         int64_t length = 6) {
  ExchangeCase made{
      .name = std::to_string(experts) + "_experts_" + std::to_string(choices) + "_choices_" +
              std::to_string(sequences) + "_sequences",
      .experts = experts,
      .choices = choices,
      .batch = {.sequences = sequences, .length = length, .group_sequences = per_group}};
  const Shape shape{made.batch.tokens(), choices};
  const Numbers drawn = random_integers(made.name, shape, 0, experts * 5);
  for (const double number : drawn) {
    const auto value = static_cast<int32_t>(number);
    made.kept.push_back(value % 5 == 0 ? -1 : value / 5);
  }
  return made;
}

ExchangeCase with(std::string name, ExchangeCase made, std::function<int32_t(size_t)> kept) {
  made.name = std::move(name);
  for (size_t i = 0; i < made.kept.size(); ++i) made.kept[i] = kept(i);
  return made;
}

std::vector<ExchangeCase> exchange_cases() {
  const ExchangeCase base = random_case(7, 1, 8, 2);
  const ExchangeCase longer = random_case(3, 2, 8, 2, 50);  // runs of more than a block
  return {
      base,
      random_case(8, 1, 8, 1),
      random_case(3, 1, 5, 1),
      random_case(5, 2, 6, 2),
      random_case(1, 1, 3, 1),
      random_case(7, 2, 1, 1),
      with("everything_dropped", base, [](size_t) { return -1; }),
      with("all_to_the_first", base, [](size_t) { return 0; }),
      with("all_to_the_last", base, [](size_t) { return 6; }),
      with("experts_without_tokens", base,
           [](size_t i) { return i % 3 == 0   ? 2
                                 : i % 3 == 1 ? 5
                                              : -1; }),
      with("long_runs", longer, [&](size_t i) { return longer.kept[i]; }),
      with("long_runs_to_the_first", longer, [](size_t i) { return i % 7 == 0 ? -1 : 0; }),
      with("each_rank_to_one_expert", base, [](size_t i) { return static_cast<int32_t>(i / 12); })};
}

// A row says which choice it belongs to, globally, and how often it was changed.
constexpr int64_t kWidth = 3;

class ExchangeRank {
 public:
  ExchangeRank(const ExchangeCase& test_case, const Travel& travel, Collectives& world,
               int group_size, uint16_t layer = 5)
      : case_(test_case),
        travel_(travel),
        rank_(make_reference_kernels(), world, group_size, travel.ranks_per_node(group_size)),
        share_(share_of(test_case.batch.groups(), world.size(), world.rank())),
        rows_(test_case.batch, share_, rank_.memory()),
        kept_(DType::kInt32, {rows_.tokens(), test_case.choices}),
        x_(DType::kFloat64, {rows_.tokens(), kWidth}),
        exchange_(layer, test_case.experts, travel.options()) {
    const auto first = case_.kept.begin() + rows_.first_token() * case_.choices;
    upload<int32_t>(ctx(), std::vector<int32_t>(first, first + kept_.elements()), kept_);
    Numbers numbers;
    for (int64_t t = 0; t < rows_.tokens(); ++t) {
      numbers.insert(numbers.end(), {static_cast<double>(rows_.first_token() + t), 0.5, -1});
    }
    set_numbers(ctx(), numbers, x_);
  }

  // The rows (see random_row) that expert `expert` of this rank's expert group must get, in global
  // order.
  std::vector<int64_t> expected_rows(int64_t expert) const {
    // Expert groups are consecutive ranks, which hold consecutive routing groups.
    const Groups& groups = rank_.groups();
    const int first_rank = groups.world->rank() - groups.expert->rank();
    const auto begin = share_of(case_.batch.groups(), groups.world->size(), first_rank).begin;
    const auto end =
        share_of(case_.batch.groups(), groups.world->size(), first_rank + groups.expert->size() - 1)
            .end;
    std::vector<int64_t> rows;
    for (int64_t t = case_.batch.first_sequence(begin) * case_.batch.length;
         t < case_.batch.first_sequence(end) * case_.batch.length; ++t) {
      for (int64_t k = 0; k < case_.choices; ++k) {
        if (case_.kept[static_cast<size_t>(t * case_.choices + k)] != expert) continue;
        rows.push_back(random_row(t, k));
      }
    }
    return rows;
  }

  void check_round_trip() {
    const ExchangePlan plan = agree();
    const auto all_kept = read_back_as<int32_t>(ctx(), kept_);
    EXPECT_EQ(plan.sent, std::count_if(all_kept.begin(), all_kept.end(),
                                       [](int32_t expert) { return expert >= 0; }));
    EXPECT_EQ(plan.chunks, travel_.chunks);
    if (!travel_.max_rows_per_round) {
      EXPECT_EQ(plan.rounds, 1);
    }

    const TensorView returned = ctx().saved.allocate(DType::kFloat64, {plan.sent, kWidth});
    const TensorView doubled = ctx().saved.allocate(DType::kFloat64, {plan.sent, kWidth});
    arrived_.assign(static_cast<size_t>(range().count), {});
    int64_t sent = 0, received = 0, in_round = 0;
    for (int64_t number = 0; number < plan.parts(); ++number) {
      const ExchangePart part = make_part(ctx(), plan, number, ctx().saved);
      in_round = number % plan.chunks == 0 ? part.received : in_round + part.received;
      EXPECT_LE(in_round, travel_.max_rows_per_round.value_or(in_round));
      sent += part.sent;
      received += part.received;
      check_part(plan, part, returned);
    }
    EXPECT_EQ(sent, plan.sent);
    EXPECT_EQ(received, plan.received());
    for (int64_t e = 0; e < range().count; ++e) {
      EXPECT_EQ(arrived_[static_cast<size_t>(e)], expected_rows(range().first + e))
          << "expert " << range().first + e;
    }
    check_returned(plan, returned);

    // Rows that stand in sending order arrive at the same places as those taken from tokens.
    scale(ctx(), returned, 2.0, doubled);
    for (int64_t number = 0; number < plan.parts(); ++number) {
      const ExchangePart part = make_part(ctx(), plan, number, ctx().saved);
      const TensorView first = ctx().saved.allocate(DType::kFloat64, {part.received, kWidth});
      const TensorView again = ctx().saved.allocate(DType::kFloat64, {part.received, kWidth});
      exchange_.send_tokens(ctx(), plan, part, ExchangePhase::kRows, x_, first)->wait();
      exchange_.send_rows(ctx(), plan, part, ExchangePhase::kGradients, doubled, again)->wait();
      scale(ctx(), first, 4.0, first);
      EXPECT_EQ(numbers_of(ctx(), again), numbers_of(ctx(), first));
    }
  }

  LayerContext& ctx() { return rank_.ctx(); }
  ExchangePlan agree() { return exchange_.agree(ctx(), rows_.rows(), kept_); }
  // Sends all rows of the first part.
  void send(const ExchangePlan& plan, ExchangePhase phase = ExchangePhase::kRows) {
    const ExchangePart part = make_part(ctx(), plan, 0, ctx().saved);
    const TensorView received = ctx().saved.allocate(DType::kFloat64, {part.received, kWidth});
    exchange_.send_tokens(ctx(), plan, part, phase, x_, received)->wait();
  }

 private:
  ExpertRange range() const {
    const Collectives& group = *rank_.groups().expert;
    return experts_of_rank(case_.experts, group.size(), group.rank());
  }

  // One part to its experts, which double it, and back.
  void check_part(const ExchangePlan& plan, const ExchangePart& part, TensorView returned) {
    const TensorView received = ctx().saved.allocate(DType::kFloat64, {part.received, kWidth});
    exchange_.send_tokens(ctx(), plan, part, ExchangePhase::kRows, x_, received)->wait();
    const TensorView keys =
        exchange_.exchange_keys(ctx(), plan, part, ExchangePhase::kKeys, rows_.rows(), ctx().saved);
    check_received(part, received, read_back_as<int64_t>(ctx(), keys));
    scale(ctx(), received, 2.0, received);
    exchange_.return_rows(ctx(), plan, part, ExchangePhase::kResults, received, returned)->wait();
  }

  void check_received(const ExchangePart& part, TensorView received,
                      const std::vector<int64_t>& keys) {
    const auto index = read_back_as<int32_t>(ctx(), part.index);
    const Numbers rows = numbers_of(ctx(), received);
    EXPECT_EQ(part.ragged().rows(), part.received);
    ASSERT_EQ(static_cast<int64_t>(part.offsets.size()), range().count + 1);
    std::vector<int64_t> boundaries = {0};  // of (expert, leaf) runs
    for (size_t e = 0; e + 1 < part.offsets.size(); ++e) {
      for (int64_t i = part.offsets[e]; i < part.offsets[e + 1]; ++i) {
        const auto place = static_cast<size_t>(index[static_cast<size_t>(i)]);
        const int64_t key = keys[static_cast<size_t>(i)];
        EXPECT_EQ(rows[place * kWidth], token_of(key));
        EXPECT_EQ(rows[place * kWidth + 1], 0.5);
        EXPECT_EQ(rows[place * kWidth + 2], -1);
        const bool first = i == part.offsets[e];
        if (first && !arrived_[e].empty() && leaf_of(arrived_[e].back()) == leaf_of(key)) {
          // A run goes on in this part: it may have been cut between blocks only.
          const auto before =
              std::count_if(arrived_[e].begin(), arrived_[e].end(),
                            [&](int64_t row) { return leaf_of(row) == leaf_of(key); });
          EXPECT_EQ(before % kOrderedBlockRows, 0);
        }
        if (!first && leaf_of(arrived_[e].back()) != leaf_of(key)) boundaries.push_back(i);
        arrived_[e].push_back(key);
      }
      if (part.offsets[e + 1] > boundaries.back()) boundaries.push_back(part.offsets[e + 1]);
    }
    EXPECT_EQ(part.leaf_offsets, boundaries);
  }

  int64_t leaf_of(int64_t key) const {
    return token_of(key) / (case_.batch.length * case_.batch.group_sequences);
  }

  // Every choice finds its own doubled row at its owner.
  void check_returned(const ExchangePlan& plan, TensorView returned) {
    const Numbers rows = numbers_of(ctx(), returned);
    const auto source = read_back_as<int32_t>(ctx(), plan.source);
    const auto position = read_back_as<int32_t>(ctx(), plan.position);
    const auto kept = read_back_as<int32_t>(ctx(), kept_);
    for (size_t choice = 0; choice < kept.size(); ++choice) {
      EXPECT_EQ(position[choice] >= 0, kept[choice] >= 0);
      if (position[choice] < 0) continue;
      const auto row = static_cast<size_t>(position[choice]);
      EXPECT_EQ(static_cast<size_t>(source[row]), choice);
      const int64_t token = rows_.first_token() + static_cast<int64_t>(choice) / case_.choices;
      EXPECT_EQ(rows[row * kWidth], 2.0 * static_cast<double>(token));
      EXPECT_EQ(rows[row * kWidth + 1], 1.0);
      EXPECT_EQ(rows[row * kWidth + 2], -2.0);
    }
  }

  ExchangeCase case_;
  Travel travel_;
  LayerRank rank_;
  Share share_;
  BatchRows rows_;
  Tensor kept_, x_;
  Exchange exchange_;
  std::vector<std::vector<int64_t>> arrived_;  // by expert held here
};

class ExchangeOnRanks : public testing::TestWithParam<ExchangeCase> {};

TEST_P(ExchangeOnRanks, BringsEveryRowToItsExpertAndBack) {
  for (const auto& [ranks, group_size] :
       {std::pair{1, 1}, {2, 2}, {3, 3}, {4, 4}, {8, 8}, {4, 2}, {2, 1}, {8, 4}}) {
    for (const auto kind :
         {Travel::Kind::kAllToAll, Travel::Kind::kAllGather, Travel::Kind::kHierarchical}) {
      for (const auto& [chunks, rounds] :
           {std::pair<int64_t, std::optional<int64_t>>{1, {}}, {3, {}}, {1, 64}, {2, 100}}) {
        const Travel travel{.kind = kind, .chunks = chunks, .max_rows_per_round = rounds};
        SCOPED_TRACE(std::to_string(ranks) + "x" + std::to_string(group_size) + ", " +
                     testing::PrintToString(travel));
        run_threaded_ranks(ranks, [&, size = group_size](Collectives& world) {
          ExchangeRank(GetParam(), travel, world, size).check_round_trip();
        });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExchangeOnRanks, testing::ValuesIn(exchange_cases()),
                         [](const auto& all) { return all.param.name; });

// Six ranks as three nodes of two: the two sides of a hierarchical exchange differ in size.
TEST(Exchange, GoesThroughThreeNodesOfTwoRanks) {
  run_threaded_ranks(6, [&](Collectives& world) {
    ExchangeRank(random_case(7, 2, 12, 2), {.kind = Travel::Kind::kHierarchical}, world, 6)
        .check_round_trip();
  });
}

// What a defect of the program would look like; expects an error that says all of `texts`.
void expect_rank_error(const std::vector<std::string>& texts,
                       const std::function<void(ExchangeRank& rank, bool astray)>& body,
                       uint16_t layer_astray = 3) {
  try {
    run_threaded_ranks(3, [&](Collectives& world) {
      const bool astray = world.rank() == 1;
      ExchangeRank rank(random_case(7, 1, 8, 2), {}, world, 3, astray ? layer_astray : 3);
      rank.ctx().step = 11;
      body(rank, astray);
    });
    ADD_FAILURE() << "nobody noticed";
  } catch (const RankError& error) {
    for (const std::string& text : texts) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  }
}

TEST(Exchange, NoticesARankInAnotherLayer) {
  expect_rank_error(
      {"out of step", "rank 1", "layer encoder.block.4, step 11", "layer encoder.block.3, step 11"},
      [](ExchangeRank& rank, bool) { rank.agree(); }, 4);
}

TEST(Exchange, NoticesARankInAnotherStep) {
  expect_rank_error({"out of step", "rank 1", "step 12", "step 11"},
                    [](ExchangeRank& rank, bool astray) {
                      rank.ctx().step += astray;
                      rank.agree();
                    });
}

// One rank goes forward where the others go backward.
TEST(Exchange, NoticesARankThatGoesTheOtherWay) {
  expect_rank_error({"out of step", "rank 1", "rows to experts", "gradients to experts"},
                    [](ExchangeRank& rank, bool astray) {
                      const ExchangePlan plan = rank.agree();
                      rank.send(plan, astray ? ExchangePhase::kRows : ExchangePhase::kGradients);
                    });
}

// One rank starts a new exchange where the others go on with one.
TEST(Exchange, NoticesARankThatCountsAgain) {
  expect_rank_error({"out of step", "rank 1", "counts", "rows to experts"},
                    [](ExchangeRank& rank, bool astray) {
                      const ExchangePlan plan = rank.agree();
                      if (astray) {
                        rank.agree();
                      } else {
                        rank.send(plan);
                      }
                    });
}

TEST(Exchange, NoticesARankThatSendsAnotherNumberOfRows) {
  int64_t expected = 0;
  run_threaded_ranks(3, [&](Collectives& world) {
    ExchangeRank rank(random_case(7, 1, 8, 2), {}, world, 3);
    const ExchangePlan plan = rank.agree();
    if (world.rank() == 0) expected = plan.rows_at(0, 1, 2);
  });
  ASSERT_GT(expected, 0);
  expect_rank_error(
      {"rank 1 of the expert group sends " + std::to_string(expected - 1) + " rows, rank 2",
       "expects " + std::to_string(expected),
       "layer encoder.block.3, step 11, rows to experts, part 0"},
      [](ExchangeRank& rank, bool astray) {
        ExchangePlan plan = rank.agree();
        if (astray) plan.rows_at(0, 1, 2) -= 1;
        rank.send(plan);
      });
}

TEST(Exchange, NoticesNothingWhereRanksAgree) {
  run_threaded_ranks(3, [&](Collectives& world) {
    ExchangeRank rank(random_case(7, 1, 8, 2), {}, world, 3);
    rank.ctx().step = 11;
    EXPECT_NO_THROW(rank.send(rank.agree()));
  });
}

}  // namespace
}  // namespace switchyard::test
