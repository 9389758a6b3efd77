#include "layers/attention_layer.h"

#include <gtest/gtest.h>

#include <numeric>
#include <optional>

#include "layers/layer_case.h"
#include "support/finite_differences.h"

namespace switchyard::test {
namespace {

struct AttentionCase {
  std::string name;
  bool cross = false, causal = false, masked = false, biased = false;
  double dropout = 0.0, scale = 1.0;
  Write keys_write = Write::kAccumulate;
  int64_t kv_heads = 3, window = 0;
  QkNorm qk_norm = QkNorm::kNone;
  bool rotary = false;
};

void PrintTo(const AttentionCase& test_case, std::ostream* out) { *out << test_case.name; }

constexpr int64_t kModel = 6, kHeads = 3, kWidth = 4;  // D != H * d

// The layer with its inputs on one rank in float64; keys are longer than queries where it crosses.
class AttentionCheck : public LayerCase {
 public:
  explicit AttentionCheck(const AttentionCase& test_case)
      : case_(test_case),
        layer_("attention",
               {.d_model = kModel,
                .d_kv = kWidth,
                .heads = kHeads,
                .kv_heads = test_case.kv_heads,
                .scale = test_case.scale,
                .causal = test_case.causal,
                .window = test_case.window,
                .qk_norm = test_case.qk_norm,
                .norm_epsilon = 1e-2,
                .dropout = test_case.dropout,
                .layer = 3},
               DType::kFloat64, memory(), 1),
        query_rows_({.sequences = 3, .length = 5, .group_sequences = 2}, memory()),
        key_rows_({.sequences = 3,
                   .length = test_case.cross ? 7 : 5,
                   .group_sequences = 2,
                   .real = test_case.masked ? real_tokens({3, 0, -4}, test_case.cross ? 7 : 5)
                                            : std::vector<uint8_t>()},
                  memory()),
        x_(normal_tensor("x", {query_rows_.tokens(), kModel})),
        memory_(normal_tensor("memory", {key_rows_.tokens(), kModel})),
        dy_(normal_tensor("dy", {query_rows_.tokens(), kModel})),
        dx_(normal_tensor("dx", {query_rows_.tokens(), kModel})),
        dmemory_(normal_tensor("dmemory", {key_rows_.tokens(), kModel})) {
    set_normal_weights(ctx(), layer_.weights(), 0.5);
    ctx().training = true;
    const int64_t distances = query_rows_.rows().length + key_rows_.rows().length - 1;
    if (test_case.biased) {
      bias_.emplace(normal_tensor("bias", {kHeads, distances}));
      dbias_.emplace(normal_tensor("dbias", {2, kHeads, distances}));  // two routing groups
    }
  }

  double objective() {
    release();
    const TensorView y = layer_.forward(ctx(), queries(), keys(), positions(), saved_);
    return projection(y, dy_);
  }

  void backward() {
    for (Weight* weight : layer_.weights()) weight->begin_step();
    layer_.backward(ctx(), queries(), keys(), positions(), saved_, dy_, dx_,
                    case_.cross ? dmemory_ : dx_, case_.keys_write, view(dbias_));
  }

  std::vector<Differentiated> tensors() {
    std::vector<Differentiated> all = {differentiated("x", x_, dx_)};
    if (case_.cross) all.push_back(differentiated("memory", memory_, dmemory_));
    if (case_.biased) {
      Tensor sum(DType::kFloat64, bias_->shape());
      for (int64_t i = 0; i < sum.elements(); ++i) {
        sum.data<double>()[i] =
            dbias_->data<double>()[i] + dbias_->data<double>()[sum.elements() + i];
      }
      all.push_back(differentiated("bias", *bias_, sum));
    }
    for (Weight* weight : layer_.weights()) all.push_back(differentiated(*weight));
    return all;
  }

  const Tensor& dmemory() const { return dmemory_; }

 private:
  static TensorView view(const std::optional<Tensor>& tensor) {
    return tensor ? tensor->view() : TensorView();
  }
  PositionEncoding positions() {
    PositionEncoding encoding{.distance_bias = view(bias_)};
    if (case_.rotary) {
      encoding.rotation = ctx().saved.allocate(DType::kFloat64, {x_.shape()[0], kWidth});
      rotary_table(ctx(), queries().rows.position, 100.0, encoding.rotation);
    }
    return encoding;
  }
  AttentionLayer::Source queries() {
    // In self-attention the rows carry the mask of the keys.
    return {case_.cross ? query_rows_.rows() : key_rows_.rows(), x_};
  }
  AttentionLayer::Source keys() {
    return {key_rows_.rows(), case_.cross ? memory_.view() : x_.view()};
  }

  AttentionCase case_;
  AttentionLayer layer_;
  BatchRows query_rows_, key_rows_;
  Tensor x_, memory_, dy_, dx_, dmemory_;
  std::optional<Tensor> bias_, dbias_;
  AttentionLayer::Saved saved_;
};

class AttentionGradients : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionGradients, MatchFiniteDifferences) {
  AttentionCheck check(GetParam());
  check.objective();
  check.backward();
  expect_gradients(check.tensors(), [&] { return check.objective(); });
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionGradients,
    testing::Values(
        AttentionCase{.name = "self"}, AttentionCase{.name = "self_scaled", .scale = 0.5},
        AttentionCase{.name = "self_biased", .biased = true},
        AttentionCase{.name = "self_causal_biased", .causal = true, .biased = true},
        AttentionCase{.name = "self_masked_biased", .masked = true, .biased = true},
        AttentionCase{.name = "self_everything",
                      .causal = true,
                      .masked = true,
                      .biased = true,
                      .dropout = 0.3},
        AttentionCase{.name = "grouped_rotary_window",
                      .causal = true,
                      .scale = 0.5,
                      .kv_heads = 1,
                      .window = 2,
                      .rotary = true},
        AttentionCase{.name = "norm_of_each_head",
                      .causal = true,
                      .masked = true,
                      .dropout = 0.3,
                      .kv_heads = 1,
                      .qk_norm = QkNorm::kPerHead,
                      .rotary = true},
        AttentionCase{.name = "norm_of_all_heads",
                      .causal = true,
                      .biased = true,
                      .kv_heads = 1,
                      .qk_norm = QkNorm::kWhole,
                      .rotary = true},
        AttentionCase{.name = "cross", .cross = true, .keys_write = Write::kOverwrite},
        AttentionCase{
            .name = "cross_masked", .cross = true, .masked = true, .keys_write = Write::kOverwrite},
        AttentionCase{.name = "cross_everything",
                      .cross = true,
                      .masked = true,
                      .biased = true,
                      .dropout = 0.3,
                      .scale = 0.7,
                      .keys_write = Write::kOverwrite}),
    [](const auto& all) { return all.param.name; });

// The encoder's output feeds every decoder block: each adds to its gradient.
TEST(AttentionLayer, AddsToTheGradientOfItsKeysWhereAsked) {
  AttentionCheck overwriting({.name = "", .cross = true, .keys_write = Write::kOverwrite});
  AttentionCheck adding({.name = "", .cross = true, .keys_write = Write::kAccumulate});
  for (AttentionCheck* check : {&overwriting, &adding}) {
    check->objective();
    check->backward();
  }
  const Shape shape = adding.dmemory().shape();
  const Numbers before = normal_numbers("dmemory", shape);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    EXPECT_NEAR(adding.dmemory().data<double>()[i],
                before[static_cast<size_t>(i)] + overwriting.dmemory().data<double>()[i], 1e-12);
  }
}

// Softmax of plain q.k: with d_kv 64 a forgotten or an added 1/8 would be obvious (parity 8.3).
TEST(AttentionLayer, DoesNotScaleScores) {
  OnlyRank rank(make_reference_kernels());
  AttentionLayer layer("attention", {.d_model = 64, .d_kv = 64, .heads = 1}, DType::kFloat64,
                       rank.memory(), 1);
  for (Weight* weight : layer.weights()) {
    Numbers identity(64 * 64);
    for (size_t i = 0; i < 64; ++i) identity[i * 65] = 1;
    set_numbers(rank.ctx(), identity, weight->master());
    weight->master_changed();
  }
  const BatchRows rows({.sequences = 1, .length = 2}, rank.memory());
  Tensor x(DType::kFloat64, {2, 64});
  set_numbers(rank.ctx(), normal_numbers("x", {2, 64}, 0.25), x);
  AttentionLayer::Saved saved;
  const AttentionLayer::Source source{rows.rows(), x};
  const TensorView y = layer.forward(rank.ctx(), source, source, {}, saved);

  const double *a = x.data<double>(), *b = a + 64;
  const double aa = std::inner_product(a, b, a, 0.0), ab = std::inner_product(a, b, b, 0.0);
  const double weight_of_a = 1 / (1 + std::exp(ab - aa));
  ASSERT_LT(weight_of_a, 0.999);  // a saturated softmax would show nothing
  for (int64_t d = 0; d < 64; ++d) {
    EXPECT_NEAR(y.data<double>()[d], weight_of_a * a[d] + (1 - weight_of_a) * b[d], 1e-12);
  }
}

TEST(AttentionLayer, DropsNothingOutsideTraining) {
  AttentionCheck dropping({.name = "", .dropout = 0.5}), plain({.name = ""});
  EXPECT_NE(dropping.objective(), plain.objective());
  dropping.ctx().training = false;
  EXPECT_EQ(dropping.objective(), plain.objective());
}

}  // namespace
}  // namespace switchyard::test
