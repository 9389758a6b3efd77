// Where bfloat16 rounds and where it doesn't, on every backend: docs/semantics.md, "Precision".
// Worked out by hand; numbers of bfloat16 between 1 and 2 are 2^-7 apart.
#include "tensor/bfloat16.h"

#include <cmath>

#include "backends/each_backend.h"

namespace switchyard::test {
namespace {

constexpr float kHalfStep = 0x1p-8f;  // 1 + this is a tie, which rounds to 1

class BFloat16Operations : public EachBackend {
 protected:
  Tensor tensor(const Shape& shape, const std::vector<float>& numbers) {
    std::vector<BFloat16> elements;
    for (const float number : numbers) elements.emplace_back(number);
    return device_tensor(device(), shape, elements);
  }
  Tensor empty(const Shape& shape) { return Tensor(DType::kBFloat16, shape, device().memory()); }
  std::vector<float> numbers(TensorView x) {
    const auto elements = host<BFloat16>(device(), x);
    return std::vector<float>(elements.begin(), elements.end());
  }
  // 1, then 256 times a half step: 2 in float32; summed in bfloat16 it would stay at 1.
  static std::vector<float> slow_sum() {
    std::vector<float> numbers(257, kHalfStep);
    numbers[0] = 1;
    return numbers;
  }
};

TEST_P(BFloat16Operations, ProductsAreSummedInFloat32AndRoundedOnce) {
  const auto ones = device_weight<float>(device(), {1, 257}, std::vector<float>(257, 1.0f));
  const Tensor y = empty({1, 1});
  linear(context(), tensor({1, 257}, slow_sum()), *ones, y);
  EXPECT_EQ(numbers(y), std::vector<float>{2});

  const auto columns = device_weight<float>(device(), {257, 1}, std::vector<float>(257, 1.0f));
  const Tensor dx = tensor({1, 1}, {3});
  linear_input_gradient(context(), tensor({1, 257}, slow_sum()), *columns, dx, Write::kAccumulate);
  EXPECT_EQ(numbers(dx), std::vector<float>{5});
}

TEST_P(BFloat16Operations, ProductsReadRoundedWeightsThatFollowTheirMaster) {
  const auto weight = device_weight<float>(device(), {1, 1}, {1 + kHalfStep});
  const Tensor y = empty({1, 1}), dx = empty({1, 1}), x = tensor({1, 1}, {3});
  linear(context(), x, *weight, y);
  linear_input_gradient(context(), x, *weight, dx, Write::kOverwrite);
  EXPECT_EQ(numbers(y), std::vector<float>{3});  // the master itself would lead to 3 + 2^-6
  EXPECT_EQ(numbers(dx), std::vector<float>{3});
  EXPECT_EQ(host<float>(device(), weight->master()), std::vector<float>{1 + kHalfStep});
  upload<float>(context(), std::vector<float>{3}, weight->master());
  weight->master_changed();
  linear(context(), x, *weight, y);
  EXPECT_EQ(numbers(y), std::vector<float>{9});
}

// One weight, in float32 for a router and in bfloat16: neither compute form is taken for the other.
TEST_P(BFloat16Operations, BothPrecisionsCanReadOneWeight) {
  const auto weight = device_weight<float>(device(), {1, 1}, {1 + kHalfStep});
  const Tensor y = empty({1, 1});
  const Tensor precise = device_tensor<float>(device(), {1, 1}, {1});
  for (int i = 0; i < 2; ++i) {
    linear(context(), tensor({1, 1}, {1}), *weight, y);
    EXPECT_EQ(numbers(y), std::vector<float>{1});
    const Tensor precise_y = device_tensor<float>(device(), {1, 1}, {0});
    linear(context(), precise, *weight, precise_y);
    EXPECT_EQ(host<float>(device(), precise_y), std::vector<float>{1 + kHalfStep});
  }
}

TEST_P(BFloat16Operations, GradientsOfWeightsAreFloat32) {
  const auto weight = device_weight<float>(device(), {1, 1}, {1});
  const int64_t leaves[] = {0, 257};
  const Tensor ones = tensor({257, 1}, std::vector<float>(257, 1.0f));
  // 1 + 255 half steps, which no bfloat16 holds.
  std::vector<float> dy = slow_sum();
  dy.back() = 0;
  linear_weight_gradient(context(), ones, tensor({257, 1}, dy), leaves, *weight);
  EXPECT_EQ(host<float>(device(), weight->gradient()), std::vector<float>{2 - kHalfStep});

  const auto table = device_weight<float>(device(), {1, 1}, {1});
  const Tensor ids = device_tensor(device(), {257}, std::vector<int32_t>(257, 0));
  embedding_gradient(context(), ids, tensor({257, 1}, dy), leaves, *table);
  EXPECT_EQ(host<float>(device(), table->gradient()), std::vector<float>{2 - kHalfStep});
}

TEST_P(BFloat16Operations, NormsSumInFloat32AndReadTheirScaleAsItIs) {
  // Mean square (255 + 2^2) / 256; the scale 1 + half step is 1 in bfloat16.
  std::vector<float> x(256, 1.0f);
  x[0] = 2;
  const auto scale = device_weight<float>(device(), {256}, std::vector<float>(256, 1 + kHalfStep));
  const Tensor y = empty({1, 256}), inverse(DType::kFloat32, {1}, device().memory());
  rms_norm(context(), tensor({1, 256}, x), *scale, 0.0, y, inverse);
  const double expected = 1 / std::sqrt(259.0 / 256.0);
  EXPECT_NEAR(host<float>(device(), inverse)[0], expected, 1e-7);
  // 1.99611 rounds to 2, 1.98838 without the scale to 2 - 2^-7.
  EXPECT_EQ(numbers(y)[0],
            static_cast<float>(BFloat16(2 * expected * (1 + static_cast<double>(kHalfStep)))));
  EXPECT_NE(numbers(y)[0], static_cast<float>(BFloat16(2 * expected)));
}

// Mixtral's norms round before the product with the weight, T5's after it: both by hand.
TEST_P(BFloat16Operations, NormsRoundWhereTheirModelDoes) {
  std::vector<float> x, w;
  for (int i = 0; i < 64; ++i) {
    x.push_back(static_cast<float>(1 + i % 13) / 8);
    w.push_back(1 + static_cast<float>(i) / 97);
  }
  const auto scale = device_weight<float>(device(), {64}, w);
  const Tensor input = tensor({1, 64}, x), inverse(DType::kFloat32, {1}, device().memory());
  const Tensor once = empty({1, 64}), twice = empty({1, 64});
  rms_norm(context(), input, *scale, 0.0, once, inverse);
  rms_norm(context(), input, *scale, 0.0, twice, inverse, NormRounding::kBeforeWeight);
  const float factor = host<float>(device(), inverse)[0];
  int different = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto rounded = static_cast<float>(BFloat16(x[i] * factor));
    EXPECT_EQ(numbers(twice)[i], static_cast<float>(BFloat16(rounded * w[i])));
    different += numbers(twice)[i] != numbers(once)[i];
  }
  EXPECT_GT(different, 3);
}

TEST_P(BFloat16Operations, LossesAndLogSumExpsAreFloat32) {
  const Tensor one = tensor({1, 1}, {1}), losses(DType::kFloat64, {1}, device().memory());
  const auto logits = device_weight<float>(device(), {3, 1}, {1, 2, 3});
  const Tensor target = device_tensor(device(), {1}, std::vector<int32_t>{0});
  linear_cross_entropy(context(), {}, one, *logits, target, {}, losses, {}, {});
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  EXPECT_NEAR(host<double>(device(), losses)[0], std::log(sum) - 1, 1e-6);

  AttentionInput in;
  const Tensor q = tensor({1, 1, 1, 1}, {1}), k = tensor({1, 3, 1, 1}, {1, 2, 3});
  in.q = q;
  in.k = k;
  in.v = k;
  const Tensor out = empty({1, 1, 1, 1}), lse(DType::kFloat32, {1, 1, 1}, device().memory());
  attention(context(), in, out, lse);
  EXPECT_NEAR(host<float>(device(), lse)[0], std::log(sum), 1e-6);
  const double mean = (std::exp(1.0) + 2 * std::exp(2.0) + 3 * std::exp(3.0)) / sum;
  EXPECT_EQ(numbers(out)[0], static_cast<float>(BFloat16(mean)));
}

TEST_P(BFloat16Operations, CombiningSumsInFloat32) {
  const Tensor rows = tensor({2, 1}, {1, kHalfStep}), y = empty({1, 1});
  const Tensor position = device_tensor(device(), {1, 2}, std::vector<int32_t>{0, 1});
  const Tensor weight = device_tensor<float>(device(), {1, 2}, {1 + kHalfStep, 2});
  combine_rows(context(), rows, position, weight, y);
  // (1 + half) + 2 halves = 1 + 3 halves: a tie of 1 + 1 step and 1 + 2 steps, to even. Rounding
  // the first term would lead to 1 + 1 step.
  EXPECT_EQ(numbers(y), std::vector<float>{1 + 4 * kHalfStep});
}

SWITCHYARD_EACH_BACKEND(BFloat16Operations);

}  // namespace
}  // namespace switchyard::test
