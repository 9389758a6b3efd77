// Cases of Attention, with the distance bias that T5 adds to its scores, and of Rotary.
#include "support/op_cases.h"

namespace switchyard::test {
namespace {

struct AttentionCase {
  std::string name;
  int64_t batch = 2, queries = 5, keys = 5, heads = 3, key_heads = 3, width = 4;
  bool causal = false;
  int64_t window = 0;
  int64_t query_start = 0;
  double scale = 1;
  Numbers key_segment = {}, query_segment = {};  // [batch, keys], [batch, queries]; empty: absent
  std::vector<int64_t> bucket = {};  // of each distance, for a bias table; empty: no bias
  double dropout_rate = 0;
  std::vector<int64_t> leaves = {};  // empty: every sequence is one
  // The log-sum-exp of a query that sees nothing depends on the dtype's lowest number.
  bool some_query_sees_nothing = false;
};

std::vector<CaseInput> inputs_of(const AttentionCase& c) {
  // Queries and keys of unit variance would leave the softmax nearly one-hot.
  std::vector<CaseInput> inputs = {normal("q", {c.batch, c.queries, c.heads, c.width}, 0.7),
                                   normal("k", {c.batch, c.keys, c.key_heads, c.width}, 0.7),
                                   normal("v", {c.batch, c.keys, c.key_heads, c.width})};
  if (!c.key_segment.empty()) {
    inputs.push_back(given("key_segment", Element::kInt32, {c.batch, c.keys}, c.key_segment));
  }
  if (!c.query_segment.empty()) {
    inputs.push_back(
        given("query_segment", Element::kInt32, {c.batch, c.queries}, c.query_segment));
  }
  if (!c.bucket.empty()) {
    inputs.push_back(given("bucket", Element::kInt32, {c.queries + c.keys - 1},
                           Numbers(c.bucket.begin(), c.bucket.end())));
  }
  // Not in order: what counts is the token's number, not its row.
  Numbers token;
  for (int64_t i = c.batch * c.queries; i > 0; --i) token.push_back(static_cast<double>(3 * i));
  inputs.push_back(given("token", Element::kInt64, {c.batch * c.queries}, token));
  return inputs;
}

AttentionInput attention_input(const AttentionCase& c, OpRun& run) {
  AttentionInput in;
  in.q = run.in("q");
  in.k = run.in("k");
  in.v = run.in("v");
  if (!c.key_segment.empty()) in.mask.key_segment = run.in("key_segment");
  if (!c.query_segment.empty()) in.mask.query_segment = run.in("query_segment");
  if (!c.bucket.empty()) {
    in.distance_bias = run.saved("bias", {c.heads, c.queries + c.keys - 1}, Element::kAccurate);
  }
  in.mask.causal = c.causal;
  in.mask.window = c.window;
  in.mask.query_start = c.query_start;
  in.scale = c.scale;
  in.dropout_rate = c.dropout_rate;
  in.random = {{.seed = 7, .step = 2, .layer = 1, .purpose = Purpose::kAttentionDropout},
               run.in("token")};
  return in;
}

TensorView log_sum_exp(const AttentionCase& c, OpRun& run) {
  const Shape shape = {c.batch, c.heads, c.queries};
  return c.some_query_sees_nothing ? run.temporary("log_sum_exp", shape, Element::kAccurate)
                                   : run.saved("log_sum_exp", shape, Element::kAccurate);
}

void forward(const AttentionCase& c, ExecContext& ctx, OpRun& run) {
  const AttentionInput in = attention_input(c, run);
  if (!c.bucket.empty()) {
    distance_bias(ctx, run.weight("table"), run.in("bucket"), in.distance_bias);
  }
  attention(ctx, in, run.output("out", in.q.shape()), log_sum_exp(c, run));
}

void backward(const AttentionCase& c, ExecContext& ctx, OpRun& run) {
  const AttentionInput in = attention_input(c, run);
  std::vector<int64_t> leaves = c.leaves;
  for (int64_t b = 0; c.leaves.empty() && b <= c.batch; ++b) leaves.push_back(b);
  TensorView dbias;
  if (!c.bucket.empty()) {
    dbias = run.saved(
        "dbias", {static_cast<int64_t>(leaves.size()) - 1, c.heads, in.distance_bias.shape()[1]},
        Element::kAccurate);
  }
  attention_backward(ctx, in, run.in("out"), log_sum_exp(c, run), run.d_output("out"), leaves,
                     run.d_input("q"), run.d_input("k"), run.d_input("v"), dbias);
  if (!c.bucket.empty()) {
    distance_bias_gradient(ctx, dbias, run.in("bucket"), run.weight("table"));
  }
}

OpCase attention_case(const AttentionCase& c) {
  std::vector<CaseWeight> weights;
  // Six buckets; the last one stands for no distance and gets a gradient of zero.
  if (!c.bucket.empty()) weights.push_back(normal_weight("table", {6, c.heads}));
  return {
      .name = "attention_" + c.name,
      .inputs = inputs_of(c),
      .weights = weights,
      .run = [c](ExecContext& ctx, OpRun& run) { forward(c, ctx, run); },
      .backward = [c](ExecContext& ctx, OpRun& run) { backward(c, ctx, run); },
      // A backend may take the softmax's gradient from `out`, which bfloat16 has rounded.
      .tolerance = {.float32 = 5e-6, .bfloat16 = 2e-2},
  };
}

// A bucket for each distance, several distances to a bucket.
std::vector<int64_t> buckets(int64_t distances) {
  std::vector<int64_t> bucket;
  for (int64_t p = 0; p < distances; ++p) bucket.push_back(p * 5 / distances);
  return bucket;
}

// Positions repeat, jump and go back, as in packed rows and padded batches.
OpCase rotary_case(const std::string& name, const Numbers& position, int64_t heads, int64_t width) {
  const auto rows = static_cast<int64_t>(position.size());
  const Shape shape{rows, heads, width};
  const auto table = [=](ExecContext& ctx, OpRun& run) {
    const TensorView angles = run.saved("table", {rows, width}, Element::kAccurate);
    rotary_table(ctx, run.in("position"), 1e6, angles);
    return angles;
  };
  return {
      .name = "rotary_" + name,
      .inputs = {normal("x", shape), given("position", Element::kInt32, {rows}, position)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView y = run.output("y", shape);
            copy(ctx, run.in("x"), y);
            rotate(ctx, y, table(ctx, run), Rotation::kForward, y);
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            rotate(ctx, run.d_output("y"), table(ctx, run), Rotation::kBackward, run.d_input("x"));
          },
  };
}

}  // namespace

void add_attention_cases(std::vector<OpCase>& cases) {
  cases.push_back(attention_case({.name = "plain"}));
  cases.push_back(attention_case({.name = "no_sequences", .batch = 0, .bucket = buckets(9)}));
  cases.push_back(attention_case({.name = "one", .batch = 1, .queries = 1, .keys = 1}));
  cases.push_back(attention_case({.name = "t5_encoder",
                                  .batch = 3,
                                  .key_segment = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1},
                                  .bucket = buckets(9),
                                  .leaves = {0, 2, 3}}));
  cases.push_back(attention_case(
      {.name = "t5_decoder", .causal = true, .bucket = buckets(9), .leaves = {0, 0, 2}}));
  cases.push_back(attention_case({.name = "cross",
                                  .queries = 3,
                                  .keys = 7,
                                  .key_segment = {1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1}}));
  cases.push_back(attention_case(
      {.name = "cross_long_queries", .queries = 7, .keys = 2, .bucket = buckets(8)}));
  cases.push_back(attention_case({.name = "grouped_query_window",
                                  .queries = 9,
                                  .keys = 9,
                                  .heads = 6,
                                  .key_heads = 2,
                                  .causal = true,
                                  .window = 4,
                                  .scale = 0.5}));
  // Generation: the queries stand behind keys of earlier calls, and the last key isn't there yet.
  cases.push_back(attention_case({.name = "grouped_query_window_late",
                                  .queries = 3,
                                  .keys = 9,
                                  .heads = 6,
                                  .key_heads = 2,
                                  .causal = true,
                                  .window = 4,
                                  .query_start = 5,
                                  .bucket = buckets(11)}));
  cases.push_back(attention_case({.name = "late_left_padded",
                                  .queries = 1,
                                  .keys = 6,
                                  .causal = true,
                                  .query_start = 4,
                                  .key_segment = {0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0}}));
  cases.push_back(rotary_case("no_rows", {}, 2, 4));
  cases.push_back(rotary_case("positions", {0, 1, 2, 1000, 0, 7}, 3, 10));
  cases.push_back(rotary_case("wide", {31, 32767}, 2, 128));
  cases.push_back(attention_case({.name = "packed",
                                  .causal = true,
                                  .key_segment = {1, 1, 2, 2, 2, 1, 2, 3, 3, 0},
                                  .query_segment = {1, 1, 2, 2, 2, 1, 2, 3, 3, 0},
                                  .some_query_sees_nothing = true}));
  // A sequence that is nothing but padding attends to all its keys alike.
  cases.push_back(attention_case({.name = "all_padding",
                                  .key_segment = {1, 1, 1, 0, 0, 0, 0, 0, 0, 0},
                                  .bucket = buckets(9),
                                  .some_query_sees_nothing = true}));
  cases.push_back(attention_case(
      {.name = "dropout", .causal = true, .bucket = buckets(9), .dropout_rate = 0.3}));
  cases.push_back(attention_case(
      {.name = "dropout_grouped_query", .heads = 4, .key_heads = 2, .dropout_rate = 0.6}));
  cases.push_back(attention_case({.name = "odd_sizes",
                                  .batch = 1,
                                  .queries = 33,
                                  .keys = 67,
                                  .heads = 2,
                                  .key_heads = 1,
                                  .width = 19,
                                  .scale = 0.25,
                                  .bucket = buckets(99)}));
  cases.push_back(attention_case({.name = "wide",
                                  .batch = 2,
                                  .queries = 64,
                                  .keys = 64,
                                  .heads = 2,
                                  .key_heads = 2,
                                  .width = 64,
                                  .causal = true,
                                  .scale = 0.125}));
}

}  // namespace switchyard::test
