// Exchange on threaded ranks: every kept row arrives once, at the right expert, in the order of
// the global batch, and comes back to its owner.
#include "moe/exchange.h"

#include <gtest/gtest.h>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "support/batch_rows.h"
#include "support/layer_rank.h"

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
ExchangeCase random_case(int64_t experts, int64_t choices, int64_t sequences, int64_t per_group) {
  ExchangeCase made{.name = std::to_string(experts) + "_experts_" + std::to_string(choices) +
                            "_choices_" + std::to_string(sequences) + "_sequences",
                    .experts = experts,
                    .choices = choices,
                    .batch = {.sequences = sequences, .length = 6, .group_sequences = per_group}};
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
      with("each_rank_to_one_expert", base, [](size_t i) { return static_cast<int32_t>(i / 12); })};
}

// A row says which choice it belongs to, globally, and how often it was changed.
constexpr int64_t kWidth = 3;

class ExchangeRank {
 public:
  ExchangeRank(const ExchangeCase& test_case, Collectives& world, int group_size)
      : case_(test_case),
        rank_(make_reference_kernels(), world, group_size),
        share_(share_of(test_case.batch.groups(), world.size(), world.rank())),
        rows_(test_case.batch, share_, rank_.memory()),
        kept_(DType::kInt32, {rows_.tokens(), test_case.choices}),
        x_(DType::kFloat64, {rows_.tokens(), kWidth}),
        exchange_(5, test_case.experts) {
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
    EXPECT_TRUE(exchange_.agree(ctx(), rows_.rows(), kept_, false).keys.absent());
    const ExchangePlan plan = exchange_.agree(ctx(), rows_.rows(), kept_, true);
    check_sums(plan);
    const TensorView received = exchange_.to_experts(ctx(), plan, x_, ctx().saved);
    check_received(plan, received);
    check_returned(plan, received);
  }

  LayerContext& ctx() { return rank_.ctx(); }
  ExchangePlan agree(uint16_t layer) {
    return Exchange(layer, case_.experts).agree(ctx(), rows_.rows(), kept_, false);
  }

 private:
  static int64_t sum(const std::vector<int64_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  }

  void check_sums(const ExchangePlan& plan) {
    EXPECT_EQ(plan.sent, sum(plan.send_rows));
    EXPECT_EQ(plan.received, sum(plan.received_rows));
    EXPECT_EQ(plan.ragged().rows(), plan.received);
    const auto all_kept = read_back_as<int32_t>(ctx(), kept_);
    EXPECT_EQ(plan.sent, std::count_if(all_kept.begin(), all_kept.end(),
                                       [](int32_t expert) { return expert >= 0; }));
  }

  void check_received(const ExchangePlan& plan, TensorView received) {
    const Collectives& group = *rank_.groups().expert;
    const ExpertRange range = experts_of_rank(case_.experts, group.size(), group.rank());
    const auto index = read_back_as<int32_t>(ctx(), plan.index);
    const auto keys = read_back_as<int64_t>(ctx(), plan.keys);
    const Numbers rows = numbers_of(ctx(), received);
    ASSERT_EQ(static_cast<int64_t>(plan.offsets.size()), range.count + 1);
    std::vector<int64_t> boundaries = {0};  // of (expert, leaf) runs
    for (int64_t e = 0; e < range.count; ++e) {
      std::vector<int64_t> tokens;
      const auto at = static_cast<size_t>(e);
      for (int64_t i = plan.offsets[at]; i < plan.offsets[at + 1]; ++i) {
        const auto place = static_cast<size_t>(index[static_cast<size_t>(i)]);
        tokens.push_back(static_cast<int64_t>(rows[place * kWidth]));
        EXPECT_EQ(rows[place * kWidth + 1], 0.5);
        EXPECT_EQ(rows[place * kWidth + 2], -1);
        if (i > boundaries.back() && leaf_of(tokens.back()) != leaf_of(tokens.rbegin()[1])) {
          boundaries.push_back(i);
        }
      }
      std::vector<int64_t> expected = expected_rows(range.first + e);
      EXPECT_EQ(std::vector(keys.begin() + plan.offsets[at], keys.begin() + plan.offsets[at + 1]),
                expected)
          << "expert " << range.first + e;
      for (int64_t& row : expected) row = token_of(row);
      EXPECT_EQ(tokens, expected) << "expert " << range.first + e;
      if (plan.offsets[at + 1] > boundaries.back()) boundaries.push_back(plan.offsets[at + 1]);
    }
    EXPECT_EQ(plan.leaf_offsets, boundaries);
  }

  int64_t leaf_of(int64_t token) const {
    return token / (case_.batch.length * case_.batch.group_sequences);
  }

  // Experts double their rows; every choice finds its own at its owner, also with rows that
  // already stand in sending order.
  void check_returned(const ExchangePlan& plan, TensorView received) {
    scale(ctx(), received, 2.0, received);
    const TensorView returned = exchange_.to_owners(ctx(), plan, received, ctx().saved);
    const TensorView again = exchange_.send_rows(ctx(), plan, returned, ctx().saved);
    EXPECT_EQ(numbers_of(ctx(), again), numbers_of(ctx(), received));

    const Numbers rows = numbers_of(ctx(), returned);
    const auto source = read_back_as<int32_t>(ctx(), plan.source);
    const auto position = read_back_as<int32_t>(ctx(), plan.position);
    const auto kept = read_back_as<int32_t>(ctx(), kept_);
    ASSERT_EQ(static_cast<int64_t>(rows.size()), plan.sent * kWidth);
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
  LayerRank rank_;
  Share share_;
  BatchRows rows_;
  Tensor kept_, x_;
  Exchange exchange_;
};

class ExchangeOnRanks : public testing::TestWithParam<ExchangeCase> {};

TEST_P(ExchangeOnRanks, BringsEveryRowToItsExpertAndBack) {
  for (const auto& [ranks, group_size] :
       {std::pair{1, 1}, {2, 2}, {3, 3}, {4, 4}, {8, 8}, {4, 2}, {2, 1}, {8, 4}}) {
    SCOPED_TRACE(std::to_string(ranks) + "x" + std::to_string(group_size));
    run_threaded_ranks(ranks, [&](Collectives& world) {
      ExchangeRank(GetParam(), world, group_size).check_round_trip();
    });
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExchangeOnRanks, testing::ValuesIn(exchange_cases()),
                         [](const auto& all) { return all.param.name; });

// What a defect of the program would look like: one rank calls another layer, or another step.
TEST(Exchange, NoticesRanksThatAreOutOfStep) {
  for (const bool other_layer : {true, false}) {
    try {
      run_threaded_ranks(3, [&](Collectives& world) {
        ExchangeRank rank(random_case(7, 1, 8, 2), world, 3);
        const bool astray = world.rank() == 1;
        rank.ctx().step = astray && !other_layer ? 12 : 11;
        rank.agree(astray && other_layer ? 4 : 3);
      });
      ADD_FAILURE() << "nobody noticed";
    } catch (const RankError& error) {
      EXPECT_NE(error.summary().find("out of step"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(other_layer ? "layer 4" : "step 12"),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(Exchange, NoticesNothingWhereRanksAgree) {
  run_threaded_ranks(3, [&](Collectives& world) {
    ExchangeRank rank(random_case(7, 1, 8, 2), world, 3);
    rank.ctx().step = 11;
    EXPECT_NO_THROW(rank.agree(3));
  });
}

}  // namespace
}  // namespace switchyard::test
