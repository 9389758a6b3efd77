// DenseFfn and RmsNormLayer.
#include <gtest/gtest.h>

#include "layers/dense_ffn.h"
#include "layers/layer_case.h"
#include "layers/rms_norm_layer.h"
#include "support/finite_differences.h"

namespace switchyard::test {
namespace {

struct FfnCase {
  std::string name;
  Activation activation = Activation::kRelu;
  double dropout = 0.0;
  bool gated = false;
};

void PrintTo(const FfnCase& test_case, std::ostream* out) { *out << test_case.name; }

class FfnCheck : public LayerCase {
 public:
  FfnCheck(const FfnCase& test_case, const GlobalBatch& batch, Share groups)
      : layer_("ffn",
               {.d_model = 5,
                .d_ff = 7,
                .activation = test_case.activation,
                .gated = test_case.gated,
                .dropout = test_case.dropout,
                .layer = 2},
               DType::kFloat64, memory(), 1),
        rows_(batch, groups, memory()),
        saved_(layer_.make_saved()),
        x_(normal_tensor("x", {batch.tokens(), 5})),
        dy_(normal_tensor("dy", {batch.tokens(), 5})),
        dx_(normal_tensor("dx", {batch.tokens(), 5})) {
    set_normal_weights(ctx(), layer_.weights(), 0.6);
    ctx().training = true;
  }

  std::vector<Weight*> weights() { return layer_.weights(); }
  TensorView x() const { return part(x_); }
  TensorView forward() {
    release();
    return layer_.forward(ctx(), rows_.rows(), part(x_), *saved_);
  }
  double objective() { return projection(forward(), part(dy_)); }
  void backward() {
    for (Weight* weight : layer_.weights()) weight->begin_step();
    layer_.backward(ctx(), rows_.rows(), part(x_), *saved_, part(dy_), part(dx_));
  }
  std::vector<Differentiated> tensors() {
    std::vector<Differentiated> all = {differentiated("x", part(x_), part(dx_))};
    for (Weight* weight : layer_.weights()) all.push_back(differentiated(*weight));
    return all;
  }

 private:
  // The rows of this check's groups.
  TensorView part(const Tensor& x) const {
    return x.view().rows(rows_.first_token(), rows_.first_token() + rows_.tokens());
  }

  DenseFfn layer_;
  BatchRows rows_;
  std::unique_ptr<FeedForward::Saved> saved_;
  Tensor x_, dy_, dx_;
};

const GlobalBatch kBatch{.sequences = 3, .length = 4};

class FfnGradients : public testing::TestWithParam<FfnCase> {};

TEST_P(FfnGradients, MatchFiniteDifferences) {
  FfnCheck check(GetParam(), kBatch, {0, 3});
  check.objective();
  check.backward();
  expect_gradients(check.tensors(), [&] { return check.objective(); });
}

INSTANTIATE_TEST_SUITE_P(
    All, FfnGradients,
    testing::Values(
        FfnCase{.name = "relu", .activation = Activation::kRelu},
        FfnCase{.name = "relu_dropout", .activation = Activation::kRelu, .dropout = 0.4},
        FfnCase{.name = "gelu", .activation = Activation::kGelu},
        FfnCase{.name = "gelu_dropout", .activation = Activation::kGelu, .dropout = 0.1},
        FfnCase{.name = "silu", .activation = Activation::kSilu},
        FfnCase{.name = "relu2_dropout", .activation = Activation::kRelu2, .dropout = 0.4},
        FfnCase{.name = "linear", .activation = Activation::kNone},
        FfnCase{.name = "reglu", .activation = Activation::kRelu, .gated = true},
        FfnCase{.name = "gelu_tanh", .activation = Activation::kGeluTanh},
        FfnCase{.name = "geglu", .activation = Activation::kGelu, .gated = true},
        FfnCase{.name = "swiglu_dropout",
                .activation = Activation::kSilu,
                .dropout = 0.4,
                .gated = true}),
    [](const auto& all) { return all.param.name; });

// wo(silu(wg x) * (wi x)), by plain loops.
TEST(DenseFfn, IsGated) {
  FfnCheck check({.name = "", .activation = Activation::kSilu, .gated = true}, kBatch, {0, 3});
  const Numbers y = numbers_of(check.ctx(), check.forward());
  const std::vector<Weight*> weights = check.weights();
  ASSERT_EQ(weights.size(), 3u);
  EXPECT_EQ(weights[2]->name(), "ffn.wg");
  const auto of = [&](size_t i) { return numbers_of(check.ctx(), weights[i]->master()); };
  const Numbers wi = of(0), wo = of(1), wg = of(2), x = numbers_of(check.ctx(), check.x());
  for (size_t t = 0; t < 12; ++t) {
    for (size_t d = 0; d < 5; ++d) {
      double sum = 0;
      for (size_t f = 0; f < 7; ++f) {
        const double* row = x.data() + t * 5;
        const double gate = std::inner_product(row, row + 5, wg.begin() + f * 5, 0.0);
        const double up = std::inner_product(row, row + 5, wi.begin() + f * 5, 0.0);
        sum += wo[d * 7 + f] * gate / (1 + std::exp(-gate)) * up;
      }
      EXPECT_NEAR(y[t * 5 + d], sum, 1e-12);
    }
  }
}

// A token's dropped elements depend on its place in the global batch, not on the rank's share.
TEST(DenseFfn, DropsTheSameInAnyLayout) {
  const FfnCase dropping{.name = "", .dropout = 0.4};
  FfnCheck whole(dropping, kBatch, {0, 3});
  const Numbers all = numbers_of(whole.ctx(), whole.forward());
  for (int64_t group = 0; group < 3; ++group) {
    FfnCheck part(dropping, kBatch, {group, group + 1});
    const Numbers here = numbers_of(part.ctx(), part.forward());
    const auto first = all.begin() + group * 4 * 5;
    EXPECT_EQ(here, Numbers(first, first + 4 * 5)) << "group " << group;
  }
}

TEST(DenseFfn, DropsByStepAndOnlyInTraining) {
  FfnCheck dropping({.name = "", .dropout = 0.4}, kBatch, {0, 3});
  FfnCheck plain({.name = ""}, kBatch, {0, 3});
  const double first = dropping.objective();
  EXPECT_EQ(first, dropping.objective());
  dropping.ctx().step = 1;
  EXPECT_NE(first, dropping.objective());
  dropping.ctx().training = false;
  EXPECT_EQ(dropping.objective(), plain.objective());
}

class RmsNormCheck : public LayerCase {
 public:
  RmsNormCheck()
      : layer_("norm", 5, 1e-2, DType::kFloat64, memory()),
        x_(normal_tensor("x", {6, 5}, 0.3)),
        dy_(normal_tensor("dy", {6, 5})),
        dx_(normal_tensor("dx", {6, 5})) {}

  RmsNormLayer& layer() { return layer_; }
  double objective() {
    release();
    return projection(layer_.forward(ctx(), x_, saved_), dy_);
  }
  void backward(Write write) {
    layer_.weights().front()->begin_step();
    const int64_t leaves[] = {0, 2, 6};
    layer_.backward(ctx(), leaves, saved_, dy_, dx_, write);
  }
  std::vector<Differentiated> tensors() {
    return {differentiated("x", x_, dx_), differentiated(*layer_.weights().front())};
  }
  const Tensor& dx() const { return dx_; }
  const Tensor& x() const { return x_; }

 private:
  RmsNormLayer layer_;
  Tensor x_, dy_, dx_;
  RmsNormLayer::Saved saved_;
};

TEST(RmsNormLayer, GradientsMatchFiniteDifferences) {
  RmsNormCheck check;
  set_normal_weights(check.ctx(), check.layer().weights(), 1);
  check.objective();
  check.backward(Write::kOverwrite);
  expect_gradients(check.tensors(), [&] { return check.objective(); });
}

// The residual stream's gradient passes a sublayer by and gets the norm's added.
TEST(RmsNormLayer, AddsToTheInputGradientWhereAsked) {
  RmsNormCheck overwriting, adding;
  overwriting.objective();
  overwriting.backward(Write::kOverwrite);
  adding.objective();
  adding.backward(Write::kAccumulate);
  const Numbers before = normal_numbers("dx", {6, 5});
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_NEAR(adding.dx().data<double>()[i], before[i] + overwriting.dx().data<double>()[i],
                1e-12);
  }
}

// x / sqrt(mean(x^2) + epsilon), epsilon inside the root and large enough to show; scale of ones.
TEST(RmsNormLayer, IsXOverItsRootMeanSquare) {
  RmsNormCheck check;
  RmsNormLayer::Saved saved;
  const TensorView y = check.layer().forward(check.ctx(), check.x(), saved);
  for (int64_t t = 0; t < 6; ++t) {
    const double* x = check.x().data<double>() + t * 5;
    const double mean = std::inner_product(x, x + 5, x, 0.0) / 5;
    for (int64_t d = 0; d < 5; ++d) {
      EXPECT_NEAR(y.data<double>()[t * 5 + d], x[d] / std::sqrt(mean + 1e-2), 1e-14);
    }
  }
}

}  // namespace
}  // namespace switchyard::test
