// The oracle's own oracle: answers worked out by hand or published, in float64.
#include <cmath>

#include "backends/each_backend.h"
#include "ops/loss.h"

namespace switchyard::test {
namespace {

class Reference : public testing::Test {
 protected:
  Tensor tensor(const Shape& shape, const std::vector<double>& elements) {
    return device_tensor(device_, shape, elements);
  }
  Tensor integers(const Shape& shape, const std::vector<int32_t>& elements) {
    return device_tensor(device_, shape, elements);
  }
  Tensor empty(const Shape& shape) { return Tensor(DType::kFloat64, shape); }
  void expect_near(TensorView x, const std::vector<double>& expected, double tolerance = 1e-14) {
    const std::vector<double> actual = host<double>(device_, x);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], tolerance) << i;
    }
  }
  ExecContext& context() { return device_.context(); }

  Device device_ = reference_device();
};

TEST_F(Reference, LinearIsXTimesTransposedW) {
  const Tensor x = tensor({2, 3}, {1, 2, 3, -1, 0, 4});
  const auto w = device_weight<double>(device_, {2, 3}, {1, 10, 100, 2, 0, -1});
  const Tensor y = empty({2, 2}), dx = empty({2, 3});
  linear(context(), x, *w, y);
  expect_near(y, {321, -1, 399, -6});
  linear_input_gradient(context(), tensor({2, 2}, {1, 0, 2, 3}), *w, dx, Write::kOverwrite);
  expect_near(dx, {1, 10, 100, 8, 20, 197});
  const int64_t leaves[] = {0, 2};
  linear_weight_gradient(context(), x, tensor({2, 2}, {1, 0, 2, 3}), leaves, *w);
  expect_near(w->gradient(), {-1, 2, 11, -3, 0, 12});
}

// Two experts that multiply by 1 and by 10, the middle one without rows; relu before the factor.
TEST_F(Reference, GroupedRowsAreGatheredAndScatteredTimesTheirFactors) {
  const Tensor x = tensor({4, 1}, {5, -6, 7, 100});
  const auto w = device_weight<double>(device_, {3, 1, 1}, {1, -1, 10});
  const Tensor index = integers({3}, {2, 1, 0});
  const Tensor factor = device_tensor<float>(device_, {3}, {-2, 3, 0.5f});
  const int64_t offsets[] = {0, 2, 2, 3};
  RaggedRows rows;
  rows.offsets = offsets;
  rows.index = index;
  rows.scale = factor;
  const Tensor y = tensor({4, 1}, {9, 9, 9, 9}), pre = empty({3, 1}), compact = empty({3, 1});
  grouped_linear(context(), x, RowOrder::kIndexed, *w, rows, y, RowOrder::kIndexed,
                 {Activation::kRelu, pre});
  expect_near(y, {25, 0, -14, 9});
  expect_near(pre, {7, -6, 50});
  grouped_linear(context(), x, RowOrder::kIndexed, *w, rows, compact, RowOrder::kCompact);
  expect_near(compact, {7, -6, 50});
  grouped_input_gradient(context(), compact, RowOrder::kCompact, *w, rows, y, RowOrder::kIndexed);
  expect_near(y, {250, -18, -14, 9});
}

// Values of x Phi(x) and x sigma(x) from tables of the normal and logistic distributions.
TEST_F(Reference, ActivationsHaveTheirPublishedValues) {
  const Tensor x = tensor({1, 3}, {-1, 0.5, 2});
  const auto identity = device_weight<double>(device_, {3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1});
  const auto values = [&](Activation activation, const std::vector<double>& expected) {
    const Tensor y = empty({1, 3});
    linear(context(), x, *identity, y, {.activation = activation});
    expect_near(y, expected, 1e-12);
  };
  values(Activation::kNone, {-1, 0.5, 2});
  values(Activation::kRelu, {0, 0.5, 2});
  values(Activation::kRelu2, {0, 0.25, 4});
  values(Activation::kGelu, {-0.158655253931457, 0.345731230637007, 1.954499736103642});
  // tanh(sqrt(2 / pi) (x + 0.044715 x^3)) in the place of erf, computed elsewhere.
  values(Activation::kGeluTanh, {-0.158808009391723, 0.345714009825144, 1.954597694087775});
  values(Activation::kSilu, {-0.268941421369995, 0.311229665600927, 1.761594155955765});
}

TEST_F(Reference, RmsNormDividesByTheRootOfTheMeanSquarePlusEpsilon) {
  const auto w = device_weight<double>(device_, {2}, {10, -1});
  const Tensor y = empty({2, 2}), inverse = empty({2});
  rms_norm(context(), tensor({2, 2}, {1, 7, 0, 0}), *w, 0.0625, y, inverse);  // mean square 25
  const double root = std::sqrt(25.0625);
  expect_near(inverse, {1 / root, 4});
  expect_near(y, {10 / root, -7 / root, 0, 0});
}

// With the unit matrix as the head's weight logits are h, and their gradient is dh.
TEST_F(Reference, CrossEntropyOfEqualLogitsIsTheLogarithmOfTheirNumber) {
  const auto unit = device_weight<double>(device_, {2, 2}, {1, 0, 0, 1});
  const auto head = device_weight<double>(device_, {3, 2}, {1, 0, 0, 1, 1, 1});
  const Tensor losses = empty({3}), dh = empty({3, 2});
  const std::vector<int64_t> leaves = {0, 2, 3};
  const Tensor h = tensor({3, 2}, {5, 5, std::log(3.0), 0, 1, 2});
  linear_cross_entropy(context(), {.gradient_scale = 8}, h, *unit,
                       integers({3}, {1, 0, kIgnoredTarget}), leaves, losses, {}, dh);
  expect_near(losses, {std::log(2.0), std::log(4.0 / 3), 0});
  expect_near(dh, {4, -4, -2, 2, 0, 0}, 1e-13);
  // The weight's gradient is the sum of dlogits h^T.
  expect_near(unit->gradient(), {20 - 2 * std::log(3.0), 20, -20 + 2 * std::log(3.0), -20}, 1e-13);

  // Logits 0, 0, 0: each third of the probability goes through the weight's rows.
  const Tensor loss = empty({1}), dh_of_zeros = empty({1, 2});
  const std::vector<int64_t> leaf = {0, 1};
  linear_cross_entropy(context(), {.gradient_scale = 3}, tensor({1, 2}, {0, 0}), *head,
                       integers({1}, {0}), leaf, loss, {}, dh_of_zeros);
  expect_near(loss, {std::log(3.0)});
  expect_near(dh_of_zeros, {-1, 2}, 1e-13);
}

// Z = 4: the loss is still log 4; smoothing takes 0.1 of the target and spreads it over the four.
TEST_F(Reference, CrossEntropyIsPlainWhateverIsTrainedOn) {
  const auto unit =
      device_weight<double>(device_, {4, 4}, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1});
  const Tensor losses = empty({2}), z_losses = empty({2}), dh = empty({2, 4});
  const std::vector<int64_t> leaves = {0, 2};
  linear_cross_entropy(context(), {.gradient_scale = 10, .label_smoothing = 0.1, .z = 0.5},
                       tensor({2, 4}, {0, 0, 0, 0, 1, 2, 3, 4}), *unit,
                       integers({2}, {2, kIgnoredTarget}), leaves, losses, z_losses, dh);
  const double log_z = std::log(4.0), each = 10 * (0.25 * (1 + log_z) - 0.025);
  expect_near(losses, {log_z, 0});
  expect_near(z_losses, {0.5 * log_z * log_z, 0});
  expect_near(dh, {each, each, each - 9, each, 0, 0, 0, 0}, 1e-13);
}

TEST_F(Reference, LookingUpOutsideTheTableIsRefused) {
  const auto table = device_weight<double>(device_, {2, 1}, {1, 2});
  EXPECT_THROW(embedding(context(), *table, integers({1}, {2}), empty({1, 1})), Error);
  EXPECT_THROW(embedding(context(), *table, integers({1}, {-1}), empty({1, 1})), Error);
  EXPECT_THROW(linear_cross_entropy(context(), {}, empty({1, 1}), *table, integers({1}, {2}), {},
                                    empty({1}), {}, {}),
               Error);
}

// The first step moves every weight by the learning rate against its gradient's sign; then decay.
TEST_F(Reference, AdamWFollowsItsDefinition) {
  const Tensor w = tensor({2}, {1, -2}), m = tensor({2}, {0, 0}), v = tensor({2}, {0, 0});
  AdamWStep step{.learning_rate = 0.1, .beta1 = 0.5, .beta2 = 0.75, .epsilon = 0};
  adamw(context(), step, w, tensor({2}, {4, -3}), m, v);
  expect_near(w, {0.9, -1.9});
  expect_near(m, {2, -1.5});
  expect_near(v, {4, 2.25});
  // m = 3, v = 7; corrected m / 0.75 = 4, v / 0.4375 = 16; the gradient 8 is clipped to 4.
  step.step = 2;
  step.gradient_scale = 0.5;
  step.weight_decay = 0.5;
  adamw(context(), step, w, tensor({2}, {8, -6}), m, v);
  expect_near(w, {0.9 - 0.1 * (1 + 0.45), -1.9 - 0.1 * (-1 - 0.95)});
}

class ReferenceAttention : public Reference {
 protected:
  // One sequence, one head of width 1, queries 0, so that only mask and bias decide.
  std::vector<double> attend(const std::vector<double>& values, AttentionMask mask,
                             TensorView bias = {}) {
    const int64_t length = static_cast<int64_t>(values.size());
    const Tensor zero = tensor({1, length, 1, 1}, std::vector<double>(values.size(), 0));
    const Tensor v = tensor({1, length, 1, 1}, values);
    const Tensor out = empty({1, length, 1, 1}), lse = empty({1, 1, length});
    AttentionInput in;
    in.q = zero;
    in.k = zero;
    in.v = v;
    in.mask = mask;
    in.distance_bias = bias;
    attention(context(), in, out, lse);
    return host<double>(device_, out);
  }
};

TEST_F(ReferenceAttention, MasksSayWhichKeysAreAveraged) {
  using Values = std::vector<double>;
  const Values v = {1, 2, 4, 8};
  EXPECT_EQ(attend(v, {}), (Values{3.75, 3.75, 3.75, 3.75}));
  const Values causal = attend(v, {.causal = true}), means = {1, 1.5, 7.0 / 3, 3.75};
  for (size_t i = 0; i < means.size(); ++i) EXPECT_DOUBLE_EQ(causal[i], means[i]);
  EXPECT_EQ(attend(v, {.causal = true, .window = 2}), (Values{1, 1.5, 3, 6}));
  const Tensor padding = integers({1, 4}, {1, 1, 0, 0});
  EXPECT_EQ(attend(v, {.key_segment = padding}), (Values{1.5, 1.5, 1.5, 1.5}));
  const Tensor packed = integers({1, 4}, {1, 1, 2, 2});
  EXPECT_EQ(attend(v, {.key_segment = packed, .query_segment = packed}), (Values{1.5, 1.5, 6, 6}));
}

// Hugging Face adds the lowest number to every score of a fully padded row: uniform, never NaN.
TEST_F(ReferenceAttention, AQueryThatSeesNothingAveragesAllKeys) {
  const Tensor padding = integers({1, 2}, {0, 0});
  EXPECT_EQ(attend({1, 4}, {.key_segment = padding}), (std::vector<double>{2.5, 2.5}));
}

TEST_F(ReferenceAttention, TheBiasOfKeyJForQueryIIsEntryJMinusI) {
  // Entries for distances -1, 0, 1; weights 1 : 3 where the distance is -1 or 1.
  const Tensor bias = tensor({1, 3}, {std::log(3.0), 0, std::log(1.0 / 3)});
  const std::vector<double> out = attend({4, 8}, {}, bias);
  EXPECT_NEAR(out[0], 5, 1e-14);  // (1 * 4 + 1/3 * 8) / (4/3)
  EXPECT_NEAR(out[1], 5, 1e-14);  // (3 * 4 + 1 * 8) / 4
}

// Four query heads over two key heads: heads 0 and 1 use the first, 2 and 3 the second.
TEST_F(ReferenceAttention, QueryHeadsShareKeyHeadsInOrder) {
  const Tensor q = tensor({1, 1, 4, 1}, {0, 0, 0, 0}), k = tensor({1, 1, 2, 1}, {0, 0});
  const Tensor v = tensor({1, 1, 2, 1}, {7, 9});
  const Tensor out = empty({1, 1, 4, 1}), lse = empty({1, 4, 1});
  AttentionInput in;
  in.q = q;
  in.k = k;
  in.v = v;
  attention(context(), in, out, lse);
  expect_near(out, {7, 7, 9, 9});
}

// softmax(scale * q k): scores 2 ln 3 and 0 for scale 2.
TEST_F(ReferenceAttention, TheScaleMultipliesTheScores) {
  const Tensor q = tensor({1, 1, 1, 1}, {1}), k = tensor({1, 2, 1, 1}, {std::log(3.0), 0});
  const Tensor v = tensor({1, 2, 1, 1}, {10, 0});
  const Tensor out = empty({1, 1, 1, 1}), lse = empty({1, 1, 1});
  AttentionInput in;
  in.q = q;
  in.k = k;
  in.v = v;
  in.scale = 2;
  attention(context(), in, out, lse);
  expect_near(out, {9});
  expect_near(lse, {std::log(10.0)});
}

}  // namespace
}  // namespace switchyard::test
