#include "layers/initialise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "layers/attention_layer.h"
#include "layers/dense_ffn.h"
#include "layers/embedding_layer.h"
#include "layers/layer_case.h"
#include "layers/lm_head.h"
#include "layers/relative_position_bias.h"
#include "layers/rms_norm_layer.h"

namespace switchyard::test {
namespace {

struct Moments {
  double mean = 0, deviation = 0, kurtosis = 0, largest = 0;
};

Moments moments_of(const Numbers& numbers) {
  const auto count = static_cast<double>(numbers.size());
  Moments moments;
  moments.mean = std::accumulate(numbers.begin(), numbers.end(), 0.0) / count;
  double second = 0, fourth = 0;
  for (const double x : numbers) {
    const double square = (x - moments.mean) * (x - moments.mean);
    second += square / count;
    fourth += square * square / count;
    moments.largest = std::max(moments.largest, std::abs(x));
  }
  moments.deviation = std::sqrt(second);
  moments.kurtosis = fourth / (second * second);
  return moments;
}

// 40,000 numbers: relative errors are about 1/200 for means and 1/280 for deviations; bounds are
// four of those. Draws are the same everywhere, so a bound is passed or failed for good.
constexpr int64_t kSide = 200;

Numbers initialised(const std::string& name, const Initial& initial, uint64_t seed = 1) {
  Weight weight(name, WeightRole::kDense, DType::kFloat64, {kSide, kSide}, HostMemory::instance());
  const uint64_t before = weight.version();
  initialise(weight, initial, seed);
  EXPECT_GT(weight.version(), before);
  const double* data = weight.master().data<double>();
  return Numbers(data, data + kSide * kSide);
}

TEST(Initialise, NormalHasItsMoments) {
  const Moments moments = moments_of(initialised("w", Initial::normal(0.5)));
  EXPECT_NEAR(moments.mean, 0, 0.5 * 0.02);
  EXPECT_NEAR(moments.deviation, 0.5, 0.5 * 0.0143);
  EXPECT_NEAR(moments.kurtosis, 3, 0.1);
  EXPECT_GT(moments.largest, 0.5 * 3.5);
}

// Not rescaled: cutting a unit normal at 2 leaves a deviation of 0.87963, a kurtosis of 2.3655.
TEST(Initialise, TruncatedNormalIsCutAtTwoDeviations) {
  const Moments moments = moments_of(initialised("w", Initial::truncated_normal(0.5)));
  EXPECT_NEAR(moments.mean, 0, 0.5 * 0.02);
  EXPECT_NEAR(moments.deviation, 0.5 * 0.87963, 0.5 * 0.0125);
  EXPECT_NEAR(moments.kurtosis, 2.3655, 0.06);
  EXPECT_LE(moments.largest, 1.0);
  EXPECT_GT(moments.largest, 0.99);
}

TEST(Initialise, UniformFillsItsRange) {
  const Moments moments = moments_of(initialised("w", Initial::uniform(0.5)));
  EXPECT_NEAR(moments.mean, 0, 0.5 * 0.02);
  EXPECT_NEAR(moments.deviation, 0.5 / std::sqrt(3.0), 0.005);
  EXPECT_NEAR(moments.kurtosis, 1.8, 0.05);
  EXPECT_LE(moments.largest, 0.5);
  EXPECT_GT(moments.largest, 0.499);
}

double correlation(const Numbers& a, const Numbers& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0) /
         std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0) *
                   std::inner_product(b.begin(), b.end(), b.begin(), 0.0));
}

TEST(Initialise, DependsOnNameAndSeedAndOnNothingElse) {
  for (const Initial& initial :
       {Initial::normal(1), Initial::truncated_normal(1), Initial::uniform(1)}) {
    const Numbers base = initialised("block.1.q", initial);
    EXPECT_EQ(base, initialised("block.1.q", initial));
    EXPECT_LT(std::abs(correlation(base, initialised("block.1.k", initial))), 0.02);
    EXPECT_LT(std::abs(correlation(base, initialised("block.2.q", initial))), 0.02);
    EXPECT_LT(std::abs(correlation(base, initialised("block.1.q", initial, 2))), 0.02);
    // Neighbours in the tensor are independent too.
    const Numbers left(base.begin(), base.end() - 1), right(base.begin() + 1, base.end());
    EXPECT_LT(std::abs(correlation(left, right)), 0.02);
  }
}

TEST(Initialise, Float32IsRoundedFloat64) {
  Weight weight("w", WeightRole::kDense, DType::kFloat32, {kSide, kSide}, HostMemory::instance());
  initialise(weight, Initial::normal(0.5), 1);
  const Numbers exact = initialised("w", Initial::normal(0.5));
  for (size_t i = 0; i < exact.size(); ++i) {
    ASSERT_EQ(weight.master().data<float>()[i], static_cast<float>(exact[i])) << i;
  }
}

// An expert starts from the same values on whichever rank it lives, beside whichever others.
TEST(Initialise, ExpertsDoNotKnowTheLayout) {
  const int64_t experts = 7, each = 6 * 5;
  const auto stacked = [&](int64_t first, int64_t count) {
    Weight weight("moe.expert.*.wi", WeightRole::kExpert, DType::kFloat64, {count, 6, 5},
                  HostMemory::instance(), {first, count, experts});
    initialise(weight, Initial::truncated_normal(1), 9);
    const double* data = weight.master().data<double>();
    return Numbers(data, data + weight.master().elements());
  };
  const Numbers all = stacked(0, experts);
  for (const auto& [first, count] : {std::pair{0, 3}, {3, 2}, {5, 2}, {6, 1}, {7, 0}}) {
    const Numbers part = stacked(first, count);
    EXPECT_EQ(part, Numbers(all.begin() + first * each, all.begin() + (first + count) * each));
  }
  for (int64_t e = 1; e < experts; ++e) EXPECT_NE(all[0], all[static_cast<size_t>(e * each)]);
  // Each is what a dense weight of that expert's global name would be.
  Weight third("moe.expert.3.wi", WeightRole::kDense, DType::kFloat64, {6, 5},
               HostMemory::instance());
  initialise(third, Initial::truncated_normal(1), 9);
  const double* data = third.master().data<double>();
  EXPECT_EQ(Numbers(data, data + each), Numbers(all.begin() + 3 * each, all.begin() + 4 * each));
}

// Nor do slices of an expert, along either axis.
TEST(Initialise, SlicesDoNotKnowTheLayout) {
  const auto stacked = [](const Shape& shape, WeightSlice slice) {
    Weight weight("moe.expert.*.wo", WeightRole::kExpert, DType::kFloat64, shape,
                  HostMemory::instance(), {1, 2, 4}, slice);
    EXPECT_EQ(weight.whole_shape(), Shape({2, 6, 9}));
    initialise(weight, Initial::truncated_normal(1), 9);
    return weight;
  };
  const Weight whole = stacked({2, 6, 9}, {}), rows = stacked({2, 2, 9}, {1, 4, 6}),
               columns = stacked({2, 6, 3}, {2, 3, 9});
  const auto at = [](const Weight& weight, int64_t expert, int64_t row, int64_t column) {
    const Shape& shape = weight.shape();
    return weight.master().data<double>()[(expert * shape[1] + row) * shape[2] + column];
  };
  for (int64_t expert = 0; expert < 2; ++expert) {
    for (int64_t row = 0; row < 6; ++row) {
      for (int64_t column = 0; column < 9; ++column) {
        const double expected = at(whole, expert, row, column);
        if (row >= 4) {
          EXPECT_EQ(at(rows, expert, row - 4, column), expected);
        }
        if (column >= 3 && column < 6) {
          EXPECT_EQ(at(columns, expert, row, column - 3), expected);
        }
      }
    }
  }
}

// Parity 4.1: Mesh-TensorFlow's deviations.
void expect_deviation(Weight& weight, double deviation) {
  const double* data = weight.master().data<double>();
  const Moments moments = moments_of(Numbers(data, data + weight.master().elements()));
  EXPECT_NEAR(moments.deviation / deviation, 1, 0.03) << weight.name();
}

TEST(Initialise, LayersUseTheirDeviations) {
  constexpr double kCut = 0.87963;  // of a normal cut at two deviations
  const int64_t model = 80, wide = 120, heads = 3, width = 50;
  Memory& memory = HostMemory::instance();
  AttentionLayer attention("a", {.d_model = model, .d_kv = width, .heads = heads}, DType::kFloat64,
                           memory, 1);
  const std::vector<Weight*> qkvo = attention.weights();
  expect_deviation(*qkvo[0], 1 / std::sqrt(80.0 * 50.0));
  expect_deviation(*qkvo[1], 1 / std::sqrt(80.0));
  expect_deviation(*qkvo[2], 1 / std::sqrt(80.0));
  expect_deviation(*qkvo[3], 1 / std::sqrt(150.0));
  DenseFfn ffn("f", {.d_model = model, .d_ff = wide, .init = {.scale = 0.1}}, DType::kFloat64,
               memory, 1);
  expect_deviation(*ffn.weights()[0], kCut * std::sqrt(0.1 / 80.0));
  expect_deviation(*ffn.weights()[1], kCut * std::sqrt(0.1 / 120.0));
  EmbeddingLayer embedding("e", 200, model, {}, DType::kFloat64, memory, 1);
  expect_deviation(embedding.table(), 1);
  LmHead head("h", 200, model, {.scale = 0.1}, DType::kFloat64, memory, 1);
  expect_deviation(*head.weights()[0], kCut * std::sqrt(0.1 / 80.0));
  RelativePositionBias bias("b", {.buckets = 64, .max_distance = 128, .heads = 60}, DType::kFloat64,
                            memory, 1);
  expect_deviation(*bias.weights()[0], std::sqrt(6.0 / 124.0 / 3.0));
  RmsNormLayer norm("n", model, 1e-6, DType::kFloat64, memory);
  for (int64_t i = 0; i < model; ++i) {
    EXPECT_EQ(norm.weights()[0]->master().data<double>()[i], 1.0);
  }
}

}  // namespace
}  // namespace switchyard::test
