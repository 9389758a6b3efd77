// The auxiliary losses' values and gradients, and how gradients reach the gate (parity 8.11).
#include "moe/losses.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "moe/moe_case.h"

namespace switchyard::test {
namespace {

double largest(const Numbers& numbers) {
  double most = 0;
  for (const double x : numbers) most = std::max(most, std::abs(x));
  return most;
}

// A layer whose gate is the identity: logits are x, and d(losses)/dx is d(losses)/d(logits).
MoeCase transparent(const GlobalBatch& batch, int64_t experts, const AuxiliaryLosses& losses,
                    const Numbers& logits) {
  return {.batch = batch,
          .experts = experts,
          .d_model = experts,
          .capacity = {.tokens = 0},
          .losses = losses,
          .x = logits};
}

void set_identity(LayerContext& ctx, Weight& gate) {
  const int64_t side = gate.shape()[0];
  Numbers identity(static_cast<size_t>(side * side));
  for (int64_t i = 0; i < side; ++i) identity[static_cast<size_t>(i * (side + 1))] = 1;
  set_numbers(ctx, identity, gate.master());
  gate.master_changed();
}

MoeObservation observed(MoeRank& rank) {
  rank.forward();
  rank.layer().observe(rank.ctx(), rank.rows(), rank.saved());
  return rank.layer().observation();
}

// Equal probabilities on average and equal shares: the value is the coefficient, in any number of
// groups, for any number of experts.
TEST(AuxiliaryLosses, BalancedValueIsTheCoefficient) {
  for (const int64_t experts : {2, 4}) {
    const GlobalBatch batch{.sequences = 4, .length = experts, .group_sequences = 2};
    Numbers logits;
    for (int64_t t = 0; t < batch.tokens(); ++t) {
      for (int64_t e = 0; e < experts; ++e) logits.push_back(t % experts == e ? 2.0 : 0.0);
    }
    MoeOnOneRank rank(transparent(batch, experts, {.load_balance = 0.01}, logits),
                      make_reference_kernels());
    set_identity(rank->ctx(), rank->gate());
    EXPECT_NEAR(observed(*rank).load_balance, 0.01, 1e-15);
    EXPECT_EQ(rank->layer().observation().router_z, 0.0);
  }
}

TEST(AuxiliaryLosses, EveryTokenToOneExpertCostsUpToTheirNumber) {
  const GlobalBatch batch{.sequences = 2, .length = 3};
  Numbers logits;
  for (int64_t t = 0; t < batch.tokens(); ++t) logits.insert(logits.end(), {40.0, 0.0, 0.0, 0.0});
  MoeOnOneRank rank(transparent(batch, 4, {.load_balance = 1}, logits), make_reference_kernels());
  set_identity(rank->ctx(), rank->gate());
  EXPECT_NEAR(observed(*rank).load_balance, 4, 1e-12);
}

// All zeros: logsumexp is ln E.
TEST(AuxiliaryLosses, RouterZIsTheMeanSquareOfLogSumExp) {
  const GlobalBatch batch{.sequences = 2, .length = 3};
  MoeOnOneRank rank(transparent(batch, 4, {.router_z = 0.5}, Numbers(24)),
                    make_reference_kernels());
  set_identity(rank->ctx(), rank->gate());
  EXPECT_NEAR(observed(*rank).router_z, 0.5 * std::log(4.0) * std::log(4.0), 1e-14);
}

// A group without real tokens adds 0 and is counted: the other's weight doesn't depend on it.
TEST(AuxiliaryLosses, AnEmptyGroupIsCounted) {
  GlobalBatch batch{.sequences = 2, .length = 4, .real = real_tokens({4, 0}, 4)};
  const MoeCase half{.batch = batch, .losses = {.load_balance = 1, .router_z = 1}};
  const MoeCase whole{.batch = {.sequences = 1, .length = 4},
                      .losses = {.load_balance = 1, .router_z = 1}};
  MoeOnOneRank with_empty(half, make_reference_kernels()), alone(whole, make_reference_kernels());
  const MoeObservation a = observed(*with_empty), b = observed(*alone);
  EXPECT_NEAR(a.load_balance, b.load_balance / 2, 1e-14);
  EXPECT_NEAR(a.router_z, b.router_z / 2, 1e-14);
}

// Of one group: d/dlogits of coef E sum_e f_e P_e with constant f is coef E / T p (f - sum f p);
// of coef mean logsumexp^2 it is coef 2 / T logsumexp p.
TEST(AuxiliaryLosses, GradientsAreThoseOfTheFormulasWithConstantF) {
  const int64_t experts = 4, tokens = 6;
  const GlobalBatch batch{.sequences = 2, .length = 3, .group_sequences = 2};
  const Numbers logits = normal_numbers("logits", {tokens, experts});
  const RoutingByHand by_hand = route_by_hand(logits, experts, batch, 0);
  Numbers share(experts);
  for (const int32_t e : by_hand.chosen) share[static_cast<size_t>(e)] += 1.0 / tokens;

  MoeOnOneRank rank(transparent(batch, experts, {.load_balance = 0.3, .router_z = 0.2}, logits),
                    make_reference_kernels());
  set_identity(rank->ctx(), rank->gate());
  rank->forward();
  rank->backward();  // capacity 0: dx is the losses' alone
  const Numbers dx = numbers_of(rank->ctx(), rank->dx());
  for (size_t t = 0; t < tokens; ++t) {
    const double* p = &by_hand.probability[t * experts];
    const double mean = std::inner_product(share.begin(), share.end(), p, 0.0);
    double sum = 0;
    for (size_t e = 0; e < experts; ++e) sum += std::exp(logits[t * experts + e]);
    for (size_t e = 0; e < experts; ++e) {
      const double balance = 0.3 * experts / tokens * p[e] * (share[e] - mean);
      const double z = 0.2 * 2.0 / tokens * std::log(sum) * p[e];
      EXPECT_NEAR(dx[t * experts + e], balance + z, 1e-14) << t << ", " << e;
    }
  }
}

// Parity 8.15: with scope `global` f and P are means over the whole batch before they are
// multiplied, on any ranks. The mean of the groups' products is another number.
TEST(AuxiliaryLosses, GlobalScopeMultipliesMeansOfTheWholeBatch) {
  MoeCase moe_case{.batch = padded_batch(1), .losses = {.load_balance = 0.3}};
  MoeOnOneRank by_group(moe_case, make_reference_kernels());
  const double of_groups = observed(*by_group).load_balance;
  moe_case.losses.load_balance_scope = AuxiliaryLosses::Scope::kGlobal;
  for (const int ranks : {1, 2, 3, 4}) {
    run_threaded_ranks(ranks, [&](Collectives& world) {
      MoeRank rank(moe_case, make_reference_kernels(), world, 1);
      observed(rank);
      const Numbers logits = rank.all_summed(rank.spread(rank.saved().routing->logits));
      const RoutingByHand by_hand = route_by_hand(logits, moe_case.experts, moe_case.batch, 0);
      MoeObservation seen = rank.layer().observation();
      EXPECT_EQ(seen.load_balance, 0);
      seen.unpack(rank.all_summed(seen.pack()));
      const double value = rank.layer().losses().load_balance_of(seen);
      EXPECT_NEAR(value, 0.3 * by_hand.global_load_balance, 1e-14);
      EXPECT_NEAR(of_groups, 0.3 * by_hand.load_balance, 1e-14);
      EXPECT_GT(std::abs(value - of_groups), 0.01);
    });
  }
}

// The gradient that every token feels has the f of all ranks, not of its own.
TEST(AuxiliaryLosses, GlobalScopeNeedsTheLoadOfThisStep) {
  MoeOnOneRank rank(
      {.losses = {.load_balance = 1, .load_balance_scope = AuxiliaryLosses::Scope::kGlobal}},
      make_reference_kernels());
  rank->ctx().step = 3;
  rank->forward();
  rank->share_load();
  rank->ctx().step = 4;
  EXPECT_THROW(rank->layer().backward(rank->ctx(), rank->rows(), rank->x(), rank->saved(),
                                      rank->dy(), rank->dx()),
               Error);
}

// Zeros for all tokens that have an output; normal numbers for the others.
void set_dy_of_dropped(MoeRank& rank, bool dropped) {
  const auto kept = read_back_as<int32_t>(rank.ctx(), rank.saved().kept);
  Numbers dy = normal_numbers("dy", rank.dy().shape());
  const size_t width = dy.size() / kept.size();
  for (size_t i = 0; i < dy.size(); ++i) {
    if ((kept[i / width] < 0) != dropped) dy[i] = 0;
  }
  set_numbers(rank.ctx(), dy, rank.dy());
}

TEST(GateGradient, DroppedTokensGiveNone) {
  MoeOnOneRank rank({.batch = padded_batch(2), .capacity = {.tokens = 2}, .losses = {}},
                    make_reference_kernels());
  rank->forward();
  set_dy_of_dropped(*rank, true);
  ASSERT_GT(largest(numbers_of(rank->ctx(), rank->dy())), 0);
  rank->backward();
  EXPECT_EQ(largest(numbers_of(rank->ctx(), rank->dx())), 0);
  for (Weight* weight : rank->layer().weights()) {
    EXPECT_EQ(largest(numbers_of(rank->ctx(), weight->gradient())), 0) << weight->name();
  }
}

// With the losses on, a dropped token still feels them: they come before any drop.
TEST(GateGradient, DroppedTokensFeelTheAuxiliaryLosses) {
  MoeOnOneRank rank({.batch = padded_batch(2), .capacity = {.tokens = 2}},
                    make_reference_kernels());
  rank->forward();
  set_dy_of_dropped(*rank, true);
  rank->backward();
  const Numbers dx = numbers_of(rank->ctx(), rank->dx());
  const auto chosen = read_back_as<int32_t>(rank->ctx(), rank->saved().routing->expert);
  for (size_t t = 0; t < chosen.size(); ++t) {
    const Numbers row(dx.begin() + static_cast<int64_t>(t) * 4,
                      dx.begin() + static_cast<int64_t>(t + 1) * 4);
    EXPECT_EQ(largest(row) > 0, chosen[t] >= 0) << "token " << t;  // padding feels nothing
  }
  EXPECT_EQ(largest(numbers_of(rank->ctx(), rank->wi().gradient())), 0);
  EXPECT_EQ(largest(numbers_of(rank->ctx(), rank->wo().gradient())), 0);
}

// Without auxiliary losses the gate learns by the chosen probability alone: d/dlogits is
// (dy . expert(x)) p_chosen (1[e = chosen] - p_e).
TEST(GateGradient, ComesThroughTheChosenProbability) {
  const MoeCase moe_case{.experts = 4, .capacity = {.tokens = 2}, .losses = {}};
  MoeOnOneRank rank(moe_case, make_reference_kernels());
  const Numbers y = numbers_of(rank->ctx(), rank->forward());
  rank->backward();
  const MoeLayer::Saved& saved = rank->saved();
  const RoutingByHand by_hand =
      route_by_hand(numbers_of(rank->ctx(), saved.routing->logits), 4, moe_case.batch, 2);
  const Numbers x = numbers_of(rank->ctx(), rank->x()), dy = numbers_of(rank->ctx(), rank->dy());
  Numbers gradient(4 * 4);
  size_t dropped = 0;
  for (size_t t = 0; t < by_hand.kept.size(); ++t) {
    dropped += by_hand.kept[t] < 0;
    if (by_hand.kept[t] < 0) continue;
    const auto chosen = static_cast<size_t>(by_hand.kept[t]);
    const double* p = &by_hand.probability[t * 4];
    double weighted = 0;  // dy . y = p_chosen (dy . expert(x))
    for (size_t d = 0; d < 4; ++d) weighted += dy[t * 4 + d] * y[t * 4 + d];
    for (size_t e = 0; e < 4; ++e) {
      const double dlogit = weighted * ((e == chosen ? 1.0 : 0.0) - p[e]);
      for (size_t d = 0; d < 4; ++d) gradient[e * 4 + d] += dlogit * x[t * 4 + d];
    }
  }
  EXPECT_GT(dropped, 0u);
  EXPECT_LT(relative_difference(numbers_of(rank->ctx(), rank->gate().gradient()), gradient), 1e-13);
}

}  // namespace
}  // namespace switchyard::test
