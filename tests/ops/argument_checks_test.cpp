// Every operation refuses tensors of the wrong shape or dtype before a kernel sees them, and says
// which operation, which tensor and both shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "support/backends.h"

namespace switchyard::test {
namespace {

// Tensors of a shape and dtype, whatever is in them.
class Tensors {
 public:
  TensorView operator()(DType dtype, const Shape& shape) {
    tensors_.emplace_back(dtype, shape);
    fill_zero(device_.context(), tensors_.back());
    return tensors_.back();
  }
  TensorView f(const Shape& shape) { return (*this)(DType::kFloat32, shape); }
  TensorView i(const Shape& shape) { return (*this)(DType::kInt32, shape); }
  TensorView d(const Shape& shape) { return (*this)(DType::kFloat64, shape); }
  Weight& w(const Shape& shape) {
    weights_.push_back(std::make_unique<Weight>("w", WeightRole::kDense, DType::kFloat32, shape,
                                                device_.memory()));
    return *weights_.back();
  }
  ExecContext& context() { return device_.context(); }

 private:
  Device device_ = reference_device();
  std::vector<Tensor> tensors_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

struct WrongCall {
  std::string name;
  std::vector<std::string> words;  // of the message
  std::function<void(ExecContext&, Tensors&)> call;
};

AttentionInput attention_input(Tensors& t, int64_t key_heads) {
  AttentionInput in;
  in.q = t.f({2, 3, 4, 5});
  in.k = t.f({2, 6, key_heads, 5});
  in.v = t.f({2, 6, key_heads, 5});
  return in;
}

std::vector<WrongCall> wrong_products() {
  return {
      {"linear_weight",
       {"linear", "weight w", "[5, 4]", "[5, 3]"},
       [](auto& ctx, auto& t) {
         linear(ctx, t.f({2, 3}), t.w({5, 4}), t.f({2, 5}));
       }},
      {"linear_rows",
       {"linear", "y", "[1, 5]", "[2, 5]"},
       [](auto& ctx, auto& t) {
         linear(ctx, t.f({2, 3}), t.w({5, 3}), t.f({1, 5}));
       }},
      {"linear_rank",
       {"linear", "x", "[2, 3, 1]", "2 dimensions"},
       [](auto& ctx, auto& t) {
         linear(ctx, t.f({2, 3, 1}), t.w({5, 3}), t.f({2, 5}));
       }},
      {"linear_dtype",
       {"linear", "float64", "float32"},
       [](auto& ctx, auto& t) {
         linear(ctx, t.d({2, 3}), t.w({5, 3}), t.d({2, 5}));
       }},
      {"linear_unsupported",
       {"linear", "int32", "reference"},
       [](auto& ctx, auto& t) {
         linear(ctx, t(DType::kInt32, {2, 3}), t.w({5, 3}), t(DType::kInt32, {2, 5}));
       }},
      {"linear_mixed",
       {"linear", "y", "float32", "bfloat16"},
       [](auto& ctx, auto& t) {
         linear(ctx, t(DType::kBFloat16, {2, 3}), t.w({5, 3}), t.f({2, 5}));
       }},
      {"bfloat16_sum_of_squares",
       {"sum_of_squares", "x", "bfloat16", "float32"},
       [](auto& ctx, auto& t) {
         sum_of_squares(ctx, t(DType::kBFloat16, {2}), t(DType::kFloat64, {1}));
       }},
      {"linear_saved",
       {"linear", "saved pre-activation", "[2, 4]", "[2, 5]"},
       [](auto& ctx, auto& t) {
         linear(ctx, t.f({2, 3}), t.w({5, 3}), t.f({2, 5}), {Activation::kRelu, t.f({2, 4})});
       }},
      {"linear_input_gradient",
       {"linear_input_gradient", "dx", "[3, 3]", "[2, 3]"},
       [](auto& ctx, auto& t) {
         linear_input_gradient(ctx, t.f({2, 5}), t.w({5, 3}), t.f({3, 3}), Write::kOverwrite);
       }},
      {"linear_weight_gradient_leaves",
       {"linear_weight_gradient", "leaves", "to 1", "to 2"},
       [](auto& ctx, auto& t) {
         const int64_t leaves[] = {0, 1};
         linear_weight_gradient(ctx, t.f({2, 3}), t.f({2, 5}), leaves, t.w({5, 3}));
       }},
      {"grouped_experts",
       {"grouped_linear", "[3, 5, 3]", "[2, 5, 3]"},
       [](auto& ctx, auto& t) {
         const int64_t offsets[] = {0, 1, 2};
         RaggedRows rows;
         rows.offsets = offsets;
         grouped_linear(ctx, t.f({2, 3}), RowOrder::kCompact, t.w({3, 5, 3}), rows, t.f({2, 5}),
                        RowOrder::kCompact);
       }},
      {"grouped_rows",
       {"grouped_linear", "x", "[1, 3]", "[2, 3] or more rows"},
       [](auto& ctx, auto& t) {
         const int64_t offsets[] = {0, 1, 2};
         RaggedRows rows;
         rows.offsets = offsets;
         grouped_linear(ctx, t.f({1, 3}), RowOrder::kCompact, t.w({2, 5, 3}), rows, t.f({2, 5}),
                        RowOrder::kCompact);
       }},
      {"grouped_offsets",
       {"grouped_weight_gradient", "row offsets", "descend"},
       [](auto& ctx, auto& t) {
         const int64_t offsets[] = {0, 3, 2};
         RaggedRows rows;
         rows.offsets = offsets;
         grouped_weight_gradient(ctx, t.f({2, 3}), RowOrder::kCompact, t.f({2, 5}),
                                 RowOrder::kCompact, rows, t.w({2, 5, 3}));
       }},
      {"grouped_without_index",
       {"grouped_input_gradient", "row index"},
       [](auto& ctx, auto& t) {
         const int64_t offsets[] = {0, 2};
         RaggedRows rows;
         rows.offsets = offsets;
         grouped_input_gradient(ctx, t.f({2, 5}), RowOrder::kIndexed, t.w({1, 5, 3}), rows,
                                t.f({2, 3}), RowOrder::kCompact);
       }},
  };
}

std::vector<WrongCall> wrong_attention() {
  return {
      {"attention_heads",
       {"attention", "4 query heads over 3"},
       [](auto& ctx, auto& t) {
         attention(ctx, attention_input(t, 3), t.f({2, 3, 4, 5}), t.f({2, 4, 3}));
       }},
      {"attention_bias",
       {"attention", "distance bias", "[4, 9]", "[4, 8]"},
       [](auto& ctx, auto& t) {
         AttentionInput in = attention_input(t, 2);
         in.distance_bias = t.f({4, 9});
         attention(ctx, in, t.f({2, 3, 4, 5}), t.f({2, 4, 3}));
       }},
      {"attention_segments",
       {"attention", "key segment", "[2, 3]", "[2, 6]"},
       [](auto& ctx, auto& t) {
         AttentionInput in = attention_input(t, 2);
         in.mask.key_segment = t.i({2, 3});
         attention(ctx, in, t.f({2, 3, 4, 5}), t.f({2, 4, 3}));
       }},
      {"attention_window",
       {"attention", "window of 2", "causal"},
       [](auto& ctx, auto& t) {
         AttentionInput in = attention_input(t, 2);
         in.mask.window = 2;
         attention(ctx, in, t.f({2, 3, 4, 5}), t.f({2, 4, 3}));
       }},
      {"attention_log_sum_exp",
       {"attention", "log_sum_exp", "[2, 3, 4]", "[2, 4, 3]"},
       [](auto& ctx, auto& t) {
         attention(ctx, attention_input(t, 2), t.f({2, 3, 4, 5}), t.f({2, 3, 4}));
       }},
      {"attention_backward_bias",
       {"attention_backward", "come together"},
       [](auto& ctx, auto& t) {
         const AttentionInput in = attention_input(t, 4);
         const int64_t leaves[] = {0, 2};
         attention_backward(ctx, in, t.f({2, 3, 4, 5}), t.f({2, 4, 3}), t.f({2, 3, 4, 5}), leaves,
                            t.f({2, 3, 4, 5}), t.f({2, 6, 4, 5}), t.f({2, 6, 4, 5}),
                            t.f({1, 4, 8}));
       }},
  };
}

std::vector<WrongCall> wrong_elementwise() {
  return {
      {"rms_norm",
       {"rms_norm", "inverse_rms", "[3]", "[2]"},
       [](auto& ctx, auto& t) {
         rms_norm(ctx, t.f({2, 4}), t.w({4}), 1e-6, t.f({2, 4}), t.f({3}));
       }},
      {"rms_norm_backward",
       {"rms_norm_backward", "dx", "[2, 3]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         const int64_t leaves[] = {0, 2};
         rms_norm_backward(ctx, t.f({2, 4}), t.f({2}), t.f({2, 4}), leaves, t.f({2, 3}),
                           Write::kOverwrite, t.w({4}));
       }},
      {"copy",
       {"copy", "[2, 4]", "[4, 2]"},
       [](auto& ctx, auto& t) {
         copy(ctx, t.f({2, 4}), t.f({4, 2}));
       }},
      {"copy_to_integers",
       {"copy", "int32"},
       [](auto& ctx, auto& t) {
         copy(ctx, t.f({2, 4}), t.i({2, 4}));
       }},
      {"add",
       {"add", "b", "[4]", "[5]"},
       [](auto& ctx, auto& t) { add(ctx, t.f({5}), t.f({4}), t.f({5})); }},
      {"scale",
       {"scale", "y", "float64", "float32"},
       [](auto& ctx, auto& t) { scale(ctx, t.f({5}), 2, t.d({5})); }},
      {"activation_backward",
       {"activation_backward", "dy", "[2]", "[3]"},
       [](auto& ctx, auto& t) {
         activation_backward(ctx, Activation::kRelu, t.f({3}), t.f({2}), t.f({3}));
       }},
      {"gated_activation",
       {"gated_activation", "up", "[2]", "[3]"},
       [](auto& ctx, auto& t) {
         gated_activation(ctx, Activation::kSilu, t.f({3}), t.f({2}), t.f({3}));
       }},
      {"gated_activation_backward",
       {"gated_activation_backward", "dup", "[4]", "[3]"},
       [](auto& ctx, auto& t) {
         gated_activation_backward(ctx, Activation::kSilu, t.f({3}), t.f({3}), t.f({3}), t.f({3}),
                                   t.f({4}));
       }},
      {"embedding",
       {"embedding", "ids", "int32 [3]"},
       [](auto& ctx, auto& t) {
         embedding(ctx, t.w({9, 4}), t.i({2}), t.f({3, 4}));
       }},
      {"embedding_gradient",
       {"embedding_gradient", "[9, 5]", "[9, 4]"},
       [](auto& ctx, auto& t) {
         const int64_t leaves[] = {0, 3};
         embedding_gradient(ctx, t.i({3}), t.f({3, 4}), leaves, t.w({9, 5}));
       }},
      {"distance_bias",
       {"distance_bias", "bias", "[7, 2]", "[2, 7]"},
       [](auto& ctx, auto& t) {
         distance_bias(ctx, t.w({5, 2}), t.i({7}), t.f({7, 2}));
       }},
      {"distance_bias_gradient",
       {"distance_bias_gradient", "[3, 7, 2]", "[3, 2, 7]"},
       [](auto& ctx, auto& t) {
         distance_bias_gradient(ctx, t.f({3, 7, 2}), t.i({7}), t.w({5, 2}));
       }},
      {"dropout_rate",
       {"dropout", "rate 1"},
       [](auto& ctx, auto& t) {
         dropout(ctx, t.f({2, 4}), 1, {{}, t(DType::kInt64, {2})}, t.f({2, 4}));
       }},
      {"jitter_tokens",
       {"jitter", "token", "[3]", "[2]"},
       [](auto& ctx, auto& t) {
         jitter(ctx, t.f({2, 4}), 0.1, {{}, t(DType::kInt64, {3})}, t.f({2, 4}));
       }},
      {"uniform_in_activations",
       {"uniform", "y", "int32", "[2, 4]"},
       [](auto& ctx, auto& t) {
         uniform(ctx, {{}, t(DType::kInt64, {2})}, t.i({2, 4}));
       }},
      {"cross_entropy",
       {"linear_cross_entropy", "losses", "float32", "float64 [2]"},
       [](auto& ctx, auto& t) {
         linear_cross_entropy(ctx, {}, t.f({2, 4}), t.w({9, 4}), t.i({2}), {}, t.f({2}), {}, {});
       }},
      {"cross_entropy_weight",
       {"linear_cross_entropy", "weight w", "[9, 5]", "[9, 4]"},
       [](auto& ctx, auto& t) {
         linear_cross_entropy(ctx, {}, t.f({2, 4}), t.w({9, 5}), t.i({2}), {}, t.d({2}), {}, {});
       }},
      {"cross_entropy_gradient",
       {"linear_cross_entropy", "dh", "[2, 9]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         const int64_t leaves[] = {0, 2};
         linear_cross_entropy(ctx, {}, t.f({2, 4}), t.w({9, 4}), t.i({2}), leaves, t.d({2}), {},
                              t.f({2, 9}));
       }},
      {"cross_entropy_leaves",
       {"linear_cross_entropy", "leaves", "2"},
       [](auto& ctx, auto& t) {
         const int64_t leaves[] = {0, 1};
         linear_cross_entropy(ctx, {}, t.f({2, 4}), t.w({9, 4}), t.i({2}), leaves, t.d({2}), {},
                              t.f({2, 4}));
       }},
      {"sum_of_squares",
       {"sum_of_squares", "sum", "float64 [1]"},
       [](auto& ctx, auto& t) {
         sum_of_squares(ctx, t.f({2, 4}), t.f({1}));
       }},
      {"adamw",
       {"adamw", "second moment", "[3]", "[2]"},
       [](auto& ctx, auto& t) { adamw(ctx, {}, t.f({2}), t.f({2}), t.f({2}), t.f({3})); }},
      {"cross_entropy_z",
       {"linear_cross_entropy", "z losses", "[3]", "[2]"},
       [](auto& ctx, auto& t) {
         linear_cross_entropy(ctx, {}, t.f({2, 4}), t.w({9, 4}), t.i({2}), {}, t.d({2}), t.d({3}),
                              {});
       }},
      {"sgd",
       {"sgd", "momentum 0.5 without velocity"},
       [](auto& ctx, auto& t) { sgd(ctx, {.momentum = 0.5}, t.f({2}), t.f({2}), {}); }},
      {"sgd_velocity",
       {"sgd", "velocity", "[3]", "[2]"},
       [](auto& ctx, auto& t) { sgd(ctx, {.momentum = 0.5}, t.f({2}), t.f({2}), t.f({3})); }},
      {"adafactor_columns",
       {"adafactor_moments", "column moments", "[2, 3]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         adafactor_moments(ctx, {}, t.f({2, 3, 4}), t.f({2, 3, 4}), {t.f({2, 3}), t.f({2, 3})},
                           t(DType::kFloat64, {2, 2}));
       }},
      {"adafactor_elements",
       {"adafactor_update", "weight", "[2, 3, 4]", "2 dimensions"},
       [](auto& ctx, auto& t) {
         adafactor_update(ctx, 1, 0, t(DType::kFloat64, {2}), t.f({2, 3, 4}), t.f({2, 3, 4}),
                          {t.f({2, 12}), {}});
       }},
  };
}

std::vector<WrongCall> wrong_routing() {
  return {
      {"mask_choices",
       {"mask_choices", "mask", "[3]", "[2]"},
       [](auto& ctx, auto& t) {
         mask_choices(ctx, t.i({2, 1}), t(DType::kUint8, {3}), t.i({2, 1}));
       }},
      {"gather_row_keys",
       {"gather_row_keys", "257 choices"},
       [](auto& ctx, auto& t) {
         gather_row_keys(ctx, t(DType::kInt64, {2}), t.i({3}), 257, t(DType::kInt64, {3}));
       }},
      {"softmax",
       {"softmax", "probs", "[2, 5]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         softmax(ctx, t.f({2, 4}), t.f({2, 5}));
       }},
      {"softmax_backward",
       {"softmax_backward", "dprobs", "[3, 4]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         softmax_backward(ctx, t.f({2, 4}), t.f({3, 4}), t.f({2, 4}), Write::kOverwrite);
       }},
      {"choose_top_k",
       {"expert", "[2, 5]", "4 experts"},
       [](auto& ctx, auto& t) {
         choose_top_k(ctx, t.f({2, 4}), {}, t.i({2, 5}));
       }},
      {"gather_choices",
       {"gather_choices", "weight", "[2, 1]", "[2, 2]"},
       [](auto& ctx, auto& t) {
         gather_choices(ctx, t.f({2, 4}), t.i({2, 2}), t.f({2, 1}));
       }},
      {"gather_choices_backward",
       {"gather_choices_backward", "expert", "[3, 1]", "[2, 1]"},
       [](auto& ctx, auto& t) {
         gather_choices_backward(ctx, t.i({3, 1}), t.f({3, 1}), t.f({2, 4}));
       }},
      {"routing_statistics",
       {"routing_statistics", "tokens", "int64 [1]", "int64 [2]"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 1, 2};
         routing_statistics(ctx, t.f({2, 4}), t.f({2, 4}), t.i({2, 1}), {}, groups,
                            allocate_statistics(ctx.scratch, 1, 4));
       }},
      {"load_balance_gradient",
       {"load_balance_gradient", "groups", "to 3", "to 2"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 3};
         load_balance_gradient(ctx, {}, groups, allocate_statistics(ctx.scratch, 1, 4), 1, 1, 1,
                               t.f({2, 4}));
       }},
      {"router_z_gradient",
       {"router_z_gradient", "dlogits", "[1, 4]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 2};
         router_z_gradient(ctx, t.f({2, 4}), {}, groups, allocate_statistics(ctx.scratch, 1, 4), 1,
                           t.f({1, 4}));
       }},
      {"plan_capacity",
       {"plan_capacity", "capacity -1"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 2};
         plan_capacity(ctx, t.i({2, 1}), {}, groups, 4, -1, t.i({2, 1}));
       }},
      {"drop_statistics",
       {"drop_statistics", "dropped", "[1]", "[2]"},
       [](auto& ctx, auto& t) {
         drop_statistics(ctx, t.i({3, 2}), t.i({3, 2}), t.f({3, 2}), t(DType::kInt64, {1}),
                         t.d({2}));
       }},
      {"count_choices",
       {"count_choices", "counts", "[1, 4]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 1, 2};
         count_choices(ctx, t.i({2, 1}), groups, t(DType::kInt64, {1, 4}));
       }},
      {"order_choices",
       {"order_choices", "source", "[3]", "[4]"},
       [](auto& ctx, auto& t) {
         order_choices(ctx, t.i({2, 2}), 4, t.i({3}), t.i({2, 2}));
       }},
      {"gather_rows",
       {"gather_rows", "source", "[2]", "[3]"},
       [](auto& ctx, auto& t) {
         gather_rows(ctx, t.f({2, 4}), t.i({2}), 2, t.f({3, 4}));
       }},
      {"combine_rows",
       {"combine_rows", "weight", "[2, 1]", "[2, 2]"},
       [](auto& ctx, auto& t) {
         combine_rows(ctx, t.f({3, 4}), t.i({2, 2}), t.f({2, 1}), t.f({2, 4}));
       }},
      {"combine_rows_backward",
       {"combine_rows_backward", "come together"},
       [](auto& ctx, auto& t) {
         combine_rows_backward(ctx, t.f({3, 4}), t.i({4}), t.i({2, 2}), t.f({2, 2}), t.f({2, 4}),
                               t.f({3, 4}), {});
       }},
  };
}

std::vector<WrongCall> wrong_gating() {
  return {
      {"keep_best_groups",
       {"keep_best_groups", "3 groups of 4 experts"},
       [](auto& ctx, auto& t) {
         keep_best_groups(ctx, t.f({2, 4}), 3, 1, 1, t.f({2, 4}));
       }},
      {"smooth_load",
       {"smooth_load", "5 of 4 experts"},
       [](auto& ctx, auto& t) {
         smooth_load(ctx, t.f({2, 4}), t.f({2, 4}), t.f({2, 4}), 5, t.f({2, 4}));
       }},
      {"cv_squared",
       {"cv_squared", "groups", "to 3", "to 2"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 3};
         cv_squared(ctx, t.f({2, 4}), {}, groups, t.d({1}));
       }},
      {"choose_tokens",
       {"choose_tokens", "expert", "[2, 3]", "[2, 4]"},
       [](auto& ctx, auto& t) {
         const int64_t groups[] = {0, 2};
         choose_tokens(ctx, t.f({2, 4}), {}, groups, 1, t.i({2, 3}));
       }},
      {"scale_column_groups",
       {"4 columns in 3 groups"},
       [](auto& ctx, auto& t) {
         scale_column_groups(ctx, t.f({2, 4}), t.f({2, 3}), t.f({2, 4}));
       }},
      {"look_up_choices_id",
       {"token id 0 of 0"},
       [](auto& ctx, auto& t) {
         const TensorView ids = t.i({1});
         fill_zero(ctx, ids);
         look_up_choices(ctx, t.i({0}), ids, {}, t.i({1, 1}));
       }},
      {"mix_rows",
       {"mix_rows", "rows", "[5, 3]", "[4, 3]"},
       [](auto& ctx, auto& t) {
         const int64_t sequences[] = {0, 3};
         mix_rows(ctx, t.f({3, 4}), t.f({3, 3}), sequences, t.f({5, 3}));
       }},
  };
}

std::vector<WrongCall> wrong_calls() {
  std::vector<WrongCall> calls;
  for (const auto& part : {wrong_products(), wrong_attention(), wrong_elementwise(),
                           wrong_routing(), wrong_gating()}) {
    calls.insert(calls.end(), part.begin(), part.end());
  }
  return calls;
}

void PrintTo(const WrongCall& call, std::ostream* out) { *out << call.name; }

class ArgumentChecksTest : public testing::TestWithParam<WrongCall> {};

TEST_P(ArgumentChecksTest, NamesWhatIsWrong) {
  Tensors tensors;
  try {
    GetParam().call(tensors.context(), tensors);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    for (const std::string& word : GetParam().words) {
      EXPECT_THAT(error.what(), testing::HasSubstr(word));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Wrong, ArgumentChecksTest, testing::ValuesIn(wrong_calls()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace switchyard::test
