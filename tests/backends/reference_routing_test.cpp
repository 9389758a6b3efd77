// Routing on the reference backend against answers worked out by hand or published.
#include <cmath>

#include "backends/each_backend.h"

namespace switchyard::test {
namespace {

class ReferenceRouting : public testing::Test {
 protected:
  Tensor integers(const Shape& shape, const std::vector<int32_t>& elements) {
    return device_tensor(device_, shape, elements);
  }
  std::vector<int32_t> plan(const Shape& shape, const std::vector<int32_t>& expert,
                            LeafOffsets groups, int64_t experts, int64_t capacity,
                            TensorView priority = {}) {
    const Tensor kept(DType::kInt32, shape);
    plan_capacity(context(), integers(shape, expert), priority, groups, experts, capacity, kept);
    return host<int32_t>(device_, kept);
  }
  ExecContext& context() { return device_.context(); }

  Device device_ = reference_device();
};

using Ids = std::vector<int32_t>;

// Twelve tokens in one sequence, four experts with room for two: the leftmost two stay.
TEST_F(ReferenceRouting, ExactlyTheFirstChoicesOfAGroupAreKept) {
  const int64_t groups[] = {0, 12};
  EXPECT_EQ(plan({12, 1}, {0, 0, 0, 1, 2, 1, 0, 1, 3, 1, 2, 2}, groups, 4, 2),
            (Ids{0, 0, -1, 1, 2, 1, -1, -1, 3, -1, 2, -1}));
}

// The second sequence would be full already if rows were counted across the batch.
TEST_F(ReferenceRouting, EveryGroupHasRoomOfItsOwn) {
  const int64_t two[] = {0, 3, 6}, one[] = {0, 6};
  EXPECT_EQ(plan({6, 1}, {0, 0, 0, 0, 0, 1}, two, 2, 2), (Ids{0, 0, -1, 0, 0, 1}));
  EXPECT_EQ(plan({6, 1}, {0, 0, 0, 0, 0, 1}, one, 2, 2), (Ids{0, 0, -1, -1, -1, 1}));
}

TEST_F(ReferenceRouting, NoRoomDropsAll) {
  const int64_t groups[] = {0, 2};
  EXPECT_EQ(plan({2, 1}, {0, 1}, groups, 2, 0), (Ids{-1, -1}));
}

// Token 0's second choice of expert 1 comes after token 2's first one.
TEST_F(ReferenceRouting, FirstChoicesComeBeforeSecondOnes) {
  const int64_t groups[] = {0, 3};
  EXPECT_EQ(plan({3, 2}, {0, 1, 0, 2, 1, 0}, groups, 3, 1), (Ids{0, -1, -1, 2, 1, -1}));
}

TEST_F(ReferenceRouting, HigherPriorityIsKeptAndEqualOnesByPosition) {
  const int64_t groups[] = {0, 4};
  const Tensor priority = device_tensor<float>(device_, {4, 1}, {0.1f, 0.5f, 0.9f, 0.5f});
  EXPECT_EQ(plan({4, 1}, {0, 0, 0, 0}, groups, 1, 2, priority), (Ids{-1, 0, 0, -1}));
}

TEST_F(ReferenceRouting, DropsAreCountedByChoiceAndWeight) {
  const Tensor weight = device_tensor<double>(device_, {3, 2}, {0.6, 0.3, 0.5, 0.25, 9, 9});
  const Tensor dropped(DType::kInt64, {2}), weights(DType::kFloat64, {2});
  drop_statistics(context(), integers({3, 2}, {0, 1, 0, 1, -1, -1}),
                  integers({3, 2}, {0, 1, -1, -1, -1, -1}), weight, dropped, weights);
  EXPECT_EQ(host<int64_t>(device_, dropped), (std::vector<int64_t>{1, 1}));
  EXPECT_DOUBLE_EQ(weights.data<double>()[0], 1.65);
  EXPECT_DOUBLE_EQ(weights.data<double>()[1], 0.75);
}

TEST_F(ReferenceRouting, TiesGoToTheLowerExpert) {
  const Tensor scores = device_tensor<float>(device_, {3, 4}, {1, 3, 3, 1, 2, 2, 2, 2, 0, 5, 1, 7});
  const Tensor mask = device_tensor<uint8_t>(device_, {3}, {1, 1, 0});
  const Tensor expert(DType::kInt32, {3, 3});
  choose_top_k(context(), scores, {}, expert);
  EXPECT_EQ(host<int32_t>(device_, expert), (Ids{1, 2, 0, 0, 1, 2, 3, 1, 2}));
  choose_top_k(context(), scores, mask, expert);
  EXPECT_EQ(host<int32_t>(device_, expert), (Ids{1, 2, 0, 0, 1, 2, -1, -1, -1}));
}

TEST_F(ReferenceRouting, RowsAreOrderedByExpertTokenAndChoice) {
  const Tensor source(DType::kInt32, {6}), position(DType::kInt32, {3, 2});
  std::fill_n(source.data<int32_t>(), 6, -7);
  order_choices(context(), integers({3, 2}, {1, 0, -1, 1, 0, -1}), 2, source, position);
  EXPECT_EQ(host<int32_t>(device_, source), (Ids{1, 4, 0, 3, -7, -7}));
  EXPECT_EQ(host<int32_t>(device_, position), (Ids{2, 0, -1, 3, 1, -1}));

  const Tensor counts(DType::kInt64, {2, 2});
  const int64_t groups[] = {0, 1, 3};
  count_choices(context(), integers({3, 2}, {1, 0, -1, 1, 0, -1}), groups, counts);
  EXPECT_EQ(host<int64_t>(device_, counts), (std::vector<int64_t>{1, 1, 1, 1}));
}

TEST_F(ReferenceRouting, TokensSumTheirRowsTimesTheirWeights) {
  const Tensor rows = device_tensor<double>(device_, {3, 2}, {1, 2, 10, 20, 100, 200});
  const Tensor position = integers({3, 2}, {2, 0, -1, -1, -1, 1});
  const Tensor weight = device_tensor<double>(device_, {3, 2}, {0.5, 4, 1, 1, 1, 0.25});
  const Tensor y(DType::kFloat64, {3, 2});
  combine_rows(context(), rows, position, weight, y);
  EXPECT_EQ(host<double>(device_, y), (std::vector<double>{54, 108, 0, 0, 2.5, 5}));
  combine_rows(context(), rows, position, {}, y);
  EXPECT_EQ(host<double>(device_, y), (std::vector<double>{101, 202, 0, 0, 10, 20}));
}

// The load-balancing loss of Hugging Face's test of its Switch router: E sum_e f_e P_e = 0.8741045.
TEST_F(ReferenceRouting, StatisticsGiveThePublishedBalanceLoss) {
  const Tensor probs =
      device_tensor<double>(device_, {5, 2},
                            {.35490513, .60419905, .4275843, .23061597, .32985854, .43953657,
                             .25099766, .27730572, .7678207, .71474564});
  const Tensor expert = integers({5, 1}, {0, 1, 1, 0, 0});
  Arena arena(device_.memory());
  const RoutingStatistics statistics = allocate_statistics(arena, 1, 2);
  const int64_t groups[] = {0, 5};
  routing_statistics(context(), probs, probs, expert, {}, groups, statistics);
  EXPECT_EQ(host<int64_t>(device_, statistics.chosen), (std::vector<int64_t>{3, 2}));
  const double* mean = statistics.mean_probability.data<double>();
  EXPECT_NEAR(2 * (3.0 / 5 * mean[0] + 2.0 / 5 * mean[1]), 0.8741045, 1e-6);
}

// Two real tokens with probabilities 1/4, 3/4 and 1/2, 1/2, and one that is padding.
TEST_F(ReferenceRouting, StatisticsAreMeansOverRealTokens) {
  const double ln3 = std::log(3.0);
  const Tensor logits = device_tensor<double>(device_, {3, 2}, {0, ln3, 1, 1, 50, 0});
  const Tensor probs(DType::kFloat64, {3, 2});
  softmax(context(), logits, probs);
  const Tensor expert = integers({3, 1}, {1, 0, -1});
  Arena arena(device_.memory());
  const RoutingStatistics statistics = allocate_statistics(arena, 2, 2);
  const int64_t groups[] = {0, 3, 3};
  const Tensor real = device_tensor<uint8_t>(device_, {3}, {1, 1, 0});
  routing_statistics(context(), logits, probs, expert, real, groups, statistics);
  EXPECT_EQ(host<int64_t>(device_, statistics.tokens), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(host<int64_t>(device_, statistics.chosen), (std::vector<int64_t>{1, 1, 0, 0}));
  const std::vector<double> mean = host<double>(device_, statistics.mean_probability);
  EXPECT_NEAR(mean[0], 0.375, 1e-14);
  EXPECT_NEAR(mean[1], 0.625, 1e-14);
  EXPECT_EQ(mean[2], 0);
  EXPECT_EQ(mean[3], 0);
  const double z0 = std::log(4.0), z1 = 1 + std::log(2.0);
  EXPECT_NEAR(statistics.mean_square_lse.data<double>()[0], (z0 * z0 + z1 * z1) / 2, 1e-14);
  const double entropy = std::log(4.0) - 0.75 * ln3 + std::log(2.0);
  EXPECT_NEAR(statistics.entropy.data<double>()[0], entropy / 2, 1e-14);
  EXPECT_NEAR(statistics.top_probability.data<double>()[0], 0.625, 1e-14);
  EXPECT_EQ(statistics.top_probability.data<double>()[1], 0);
}

}  // namespace
}  // namespace switchyard::test
