#include "moe/top_k_router.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "backends/reference/reference_kernels.h"
#include "moe/moe_case.h"

namespace switchyard::test {
namespace {

constexpr int64_t kExperts = 3, kModel = 8;
constexpr double kJitter = 0.01;
const GlobalBatch kBatch{.sequences = 6, .length = 50, .group_sequences = 2};

class RouterCheck : public OnlyRank {
 public:
  explicit RouterCheck(double jitter, Share groups = {0, 3}, DType dtype = DType::kFloat64,
                       const GlobalBatch& batch = kBatch)
      : OnlyRank(make_reference_kernels()),
        router_(options(jitter), router_place("router", 7, kExperts, kModel, dtype, memory())),
        rows_(batch, groups, memory()),
        x_(dtype, {rows_.tokens(), kModel}) {
    set_normal_weights(ctx(), router_.weights(), 1);
    const Numbers all = normal_numbers("x", {batch.tokens(), kModel});
    const auto first = all.begin() + rows_.first_token() * kModel;
    set_numbers(ctx(), Numbers(first, first + rows_.tokens() * kModel), x_);
    ctx().training = true;
  }

  Routing forward(TensorView decided = {}) {
    Routing routing;
    router_.forward(ctx(), {x_, rows_.rows(), rows_.rows().real}, decided, routing);
    return routing;
  }
  TopKRouter& router() { return router_; }
  const TokenRows& rows() const { return rows_.rows(); }
  Tensor& x() { return x_; }

 private:
  static TopKRouterOptions options(double jitter) {
    SwitchRouterOptions options;
    options.jitter = jitter;
    return TopKRouterOptions(options);
  }

  TopKRouter router_;
  BatchRows rows_;
  Tensor x_;
};

// What the gate's input was multiplied by, element by element.
Numbers factors(RouterCheck& check) {
  const Numbers seen = numbers_of(check.ctx(), check.forward().gate_input);
  const Numbers x = numbers_of(check.ctx(), check.x());
  Numbers factors;
  for (size_t i = 0; i < x.size(); ++i) factors.push_back(seen[i] / x[i]);
  return factors;
}

// Parity 8.16.
TEST(SwitchRouterJitter, IsUniformAroundOneAndElementwise) {
  RouterCheck check(kJitter);
  const Numbers all = factors(check);
  const auto count = static_cast<double>(all.size());  // 2400
  const double mean = std::accumulate(all.begin(), all.end(), 0.0) / count;
  double square = 0;
  for (const double factor : all) {
    EXPECT_GE(factor, 1 - kJitter - 1e-12);
    EXPECT_LE(factor, 1 + kJitter + 1e-12);
    square += (factor - mean) * (factor - mean) / count;
  }
  const double deviation = kJitter / std::sqrt(3.0);
  EXPECT_NEAR(mean, 1, 4 * deviation / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(square), deviation, 0.06 * deviation);
  const std::set<double> distinct(all.begin(), all.end());
  EXPECT_GT(distinct.size(), all.size() * 99 / 100);  // one factor a token would leave an eighth
}

TEST(SwitchRouterJitter, ChangesByStepAndIsAbsentOutsideTraining) {
  RouterCheck check(kJitter);
  const Numbers first = factors(check);
  EXPECT_EQ(factors(check), first);
  check.ctx().step = 1;
  EXPECT_NE(factors(check), first);
  check.ctx().training = false;
  EXPECT_EQ(numbers_of(check.ctx(), check.forward().gate_input),
            numbers_of(check.ctx(), check.x()));
  RouterCheck without(0.0);
  EXPECT_EQ(numbers_of(without.ctx(), without.forward().gate_input),
            numbers_of(without.ctx(), without.x()));
}

TEST(SwitchRouterJitter, IsTheSameInAnyLayout) {
  RouterCheck whole(kJitter);
  const Numbers all = factors(whole);
  const auto row = static_cast<int64_t>(all.size()) / 3;
  for (int64_t group = 0; group < 3; ++group) {
    RouterCheck part(kJitter, {group, group + 1});
    const Numbers here(all.begin() + group * row, all.begin() + (group + 1) * row);
    EXPECT_EQ(factors(part), here) << "group " << group;
  }
}

// The experts get the token as it is (Mesh-TensorFlow), also in float32, where Hugging Face's
// training code jitters them too.
TEST(SwitchRouterJitter, DoesNotReachTheExperts) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    MoeOnOneRank rank({.capacity = {.tokens = 100}, .jitter = 0.5, .dtype = dtype},
                      make_reference_kernels());
    rank->forward();
    const MoeLayer::Saved& saved = rank->saved();
    const Numbers x = numbers_of(rank->ctx(), rank->x());
    EXPECT_NE(numbers_of(rank->ctx(), saved.routing->gate_input), x);
    const Numbers received = numbers_of(rank->ctx(), saved.experts.visits.at(0).received);
    ASSERT_EQ(received.size(), x.size());
    const auto source = read_back_as<int32_t>(rank->ctx(), saved.experts.plan.source);
    for (size_t i = 0; i < source.size(); ++i) {
      for (size_t d = 0; d < 4; ++d) {
        EXPECT_EQ(received[i * 4 + d], x[static_cast<size_t>(source[i]) * 4 + d]);
      }
    }
  }
}

TEST(SwitchRouter, WeighsByTheLargestOfAllProbabilities) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    RouterCheck check(0.0, {0, 3}, dtype);
    const Routing routing = check.forward();
    const Numbers logits = numbers_of(check.ctx(), routing.logits);
    const RoutingByHand by_hand = route_by_hand(logits, kExperts, kBatch, 1000);
    EXPECT_EQ(read_back_as<int32_t>(check.ctx(), routing.expert), by_hand.chosen);
    const Numbers weight = numbers_of(check.ctx(), routing.weight);
    const Numbers gate = numbers_of(check.ctx(), check.router().weights()[0]->master());
    const double tolerance = dtype == DType::kFloat64 ? 1e-14 : 1e-6;
    for (size_t t = 0; t < weight.size(); ++t) {
      const auto chosen = static_cast<size_t>(by_hand.chosen[t]);
      EXPECT_NEAR(weight[t], by_hand.probability[t * kExperts + chosen], tolerance);
      double logit = 0;
      for (size_t d = 0; d < kModel; ++d) {
        logit +=
            gate[chosen * kModel + d] * numbers_of(check.ctx(), check.x().view().rows(t, t + 1))[d];
      }
      EXPECT_NEAR(logits[t * kExperts + chosen], logit, 10 * tolerance);
    }
  }
}

TEST(SwitchRouter, TiesGoToTheLowerExpert) {
  RouterCheck check(0.0);
  set_numbers(check.ctx(), Numbers(kExperts * kModel), check.router().weights()[0]->master());
  const Routing routing = check.forward();
  for (const int32_t expert : read_back_as<int32_t>(check.ctx(), routing.expert)) {
    EXPECT_EQ(expert, 0);
  }
  for (const double weight : numbers_of(check.ctx(), routing.weight)) {
    EXPECT_NEAR(weight, 1.0 / kExperts, 1e-15);
  }
}

TEST(SwitchRouter, DoesNotRoutePadding) {
  RouterCheck check(0.0, {0, 3}, DType::kFloat64, padded_batch(2));
  const Routing routing = check.forward();
  const auto expert = read_back_as<int32_t>(check.ctx(), routing.expert);
  const Numbers weight = numbers_of(check.ctx(), routing.weight);
  const std::vector<uint8_t> real = padded_batch(2).real;
  for (size_t t = 0; t < real.size(); ++t) {
    EXPECT_EQ(expert[t] >= 0, real[t] != 0);
    EXPECT_EQ(weight[t] > 0, real[t] != 0);
  }
}

TEST(SwitchRouter, FollowsDecisionsOfAnEarlierForward) {
  RouterCheck check(0.0);
  const Routing free = check.forward();
  auto expert = read_back_as<int32_t>(check.ctx(), free.expert);
  for (int32_t& choice : expert) choice = static_cast<int32_t>((choice + 1) % kExperts);
  Tensor decided(DType::kInt32, free.expert.shape());
  upload<int32_t>(check.ctx(), expert, decided);
  const Routing replayed = check.forward(decided);
  EXPECT_EQ(read_back_as<int32_t>(check.ctx(), replayed.expert), expert);
  const Numbers probs = numbers_of(check.ctx(), replayed.probs);
  const Numbers weight = numbers_of(check.ctx(), replayed.weight);
  for (size_t t = 0; t < weight.size(); ++t) {
    EXPECT_EQ(weight[t], probs[t * kExperts + static_cast<size_t>(expert[t])]);
  }
}

}  // namespace
}  // namespace switchyard::test
