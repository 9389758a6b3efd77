#include "support/op_cases_large.h"

namespace switchyard::test {
namespace {

OpCase large_linear(int64_t rows, int64_t in, int64_t out) {
  return {
      .name =
          "linear_" + std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out),
      .inputs = {normal("x", {rows, in}), constant("dx_before", {rows, in})},
      .weights = {normal_weight("w", {out, in}, 0.05)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            linear(ctx, run.in("x"), run.weight("w"), run.output("y", {rows, out}),
                   {Activation::kGelu, run.saved("pre", {rows, out})});
            linear(ctx, run.in("x"), run.weight("w"), run.saved("unsaved", {rows, out}),
                   {.activation = Activation::kSilu});
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView dpre = run.saved("dpre", {rows, out}), dx = run.d_input("x");
            activation_backward(ctx, Activation::kGelu, run.in("pre"), run.d_output("y"), dpre);
            const int64_t leaves[] = {0, rows};
            linear_weight_gradient(ctx, run.in("x"), dpre, leaves, run.weight("w"));
            linear_weight_gradient(ctx, run.in("x"), run.d_output("y"), leaves, run.weight("w"));
            copy(ctx, run.in("dx_before"), dx);
            linear_input_gradient(ctx, dpre, run.weight("w"), dx, Write::kAccumulate);
          },
      .tolerance = {.float32 = 1e-5},
  };
}

// Uneven experts, one without rows; rows reversed and every second place left free.
OpCase large_grouped() {
  static const std::vector<int64_t> kOffsets = {0, 250, 250, 251, 400};
  const int64_t rows = 400, in = 401, out = 130;
  Numbers index(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) index[i] = static_cast<double>(2 * (rows - 1 - i));
  const auto ragged = [=](OpRun& run) {
    RaggedRows view;
    view.offsets = kOffsets;
    view.leaf_offsets = kOffsets;
    view.index = run.in("index");
    view.scale = run.in("scale");
    return view;
  };
  return {
      .name = "grouped",
      .inputs = {normal("x", {2 * rows, in}), given("index", Element::kInt32, {rows}, index),
                 given("scale", Element::kFloat32, {rows}, normal_numbers("scale", {rows}))},
      .weights = {normal_weight("w", {4, out, in})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const RaggedRows view = ragged(run);
            grouped_linear(ctx, run.in("x"), RowOrder::kIndexed, run.weight("w"), view,
                           run.output("y", {rows, out}), RowOrder::kCompact,
                           {Activation::kRelu, run.saved("pre", {rows, out})});
            const TensorView scattered = run.saved("scattered", {2 * rows, out});
            fill_zero(ctx, scattered);
            grouped_linear(ctx, run.in("x"), RowOrder::kIndexed, run.weight("w"), view, scattered,
                           RowOrder::kIndexed);
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const RaggedRows view = ragged(run);
            const TensorView dpre = run.saved("dpre", {rows, out}), dx = run.d_input("x");
            activation_backward(ctx, Activation::kRelu, run.in("pre"), run.d_output("y"), dpre);
            grouped_weight_gradient(ctx, run.in("x"), RowOrder::kIndexed, dpre, RowOrder::kCompact,
                                    view, run.weight("w"));
            fill_zero(ctx, dx);
            grouped_input_gradient(ctx, dpre, RowOrder::kCompact, run.weight("w"), view, dx,
                                   RowOrder::kIndexed);
          },
      .tolerance = {.float32 = 1e-5},
  };
}

OpCase large_attention(bool causal, double dropout_rate) {
  const int64_t batch = 3, queries = 150, keys = causal ? 150 : 171, heads = 4, width = 24;
  Numbers segments(static_cast<size_t>(batch * keys));
  for (size_t i = 0; i < segments.size(); ++i) segments[i] = i % 11 == 3 ? 0 : 1;
  const auto input = [=](OpRun& run) {
    AttentionInput in;
    in.q = run.in("q");
    in.k = run.in("k");
    in.v = run.in("v");
    in.distance_bias = run.in("bias");
    in.mask.key_segment = run.in("segment");
    in.mask.causal = causal;
    in.mask.window = causal ? 40 : 0;
    in.scale = 0.2;
    in.dropout_rate = dropout_rate;
    in.random = {{.seed = 3, .step = 1, .layer = 2, .purpose = Purpose::kAttentionDropout},
                 run.in("token")};
    return in;
  };
  return {
      .name = causal ? "attention_causal" : "attention_dropout",
      .inputs = {normal("q", {batch, queries, heads, width}), normal("k", {batch, keys, 2, width}),
                 normal("v", {batch, keys, 2, width}),
                 accurate_normal("bias", {heads, queries + keys - 1}),
                 given("segment", Element::kInt32, {batch, keys}, segments),
                 tokens(batch * queries, 1000)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            attention(ctx, input(run), run.output("out", {batch, queries, heads, width}),
                      // Not compared: the lowest number, for the query that sees nothing, differs.
                      run.temporary("lse", {batch, heads, queries}, Element::kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, 2, 3};
            const int64_t distances = queries + keys - 1;
            const TensorView by_leaf =
                run.saved("dbias", {2, heads, distances}, Element::kAccurate);
            attention_backward(ctx, input(run), run.in("out"), run.in("lse"), run.d_output("out"),
                               leaves, run.d_input("q"), run.d_input("k"), run.d_input("v"),
                               by_leaf);
            add(ctx, by_leaf.rows(0, 1).reshape({heads, distances}),
                by_leaf.rows(1, 2).reshape({heads, distances}), run.d_input("bias"));
          },
      .tolerance = {.float32 = 1e-5},
  };
}

// Packed segments over several blocks of keys and rows, with padding between and behind them whose
// queries see nothing; two heads to a key head.
OpCase packed_attention(int64_t window) {
  const int64_t batch = 2, length = 430, heads = 2, width = 33;
  Numbers segments;
  for (int64_t i = 0; i < batch * length; ++i) {
    const int64_t place = i % length;
    segments.push_back(place < 250 ? 1 : place < 255 ? 0 : place < 400 ? 2 : 0);
  }
  const auto input = [=](OpRun& run) {
    AttentionInput in{.q = run.in("q"), .k = run.in("k"), .v = run.in("v")};
    in.mask = {.key_segment = run.in("segment"),
               .query_segment = run.in("segment"),
               .causal = window > 0,
               .window = window};
    in.scale = 0.2;
    in.dropout_rate = 0.1;
    in.random = {{.seed = 3, .step = 1, .layer = 2, .purpose = Purpose::kAttentionDropout},
                 run.in("token")};
    return in;
  };
  const Shape shape{batch, length, heads, width}, key_shape{batch, length, 1, width};
  return {
      .name = "attention_packed_" + std::to_string(window),
      .inputs = {normal("q", shape), normal("k", key_shape), normal("v", key_shape),
                 given("segment", Element::kInt32, {batch, length}, segments),
                 tokens(batch * length)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            attention(ctx, input(run), run.output("out", shape),
                      run.temporary("lse", {batch, heads, length}, Element::kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, batch};
            attention_backward(ctx, input(run), run.in("out"), run.in("lse"), run.d_output("out"),
                               leaves, run.d_input("q"), run.d_input("k"), run.d_input("v"), {});
          },
      .tolerance = {.float32 = 1e-5},
  };
}

// Heads as wide as models have them, and wider; queries that start late, a window, unequal leaves.
OpCase wide_attention(int64_t width, int64_t heads, int64_t key_heads) {
  const int64_t batch = 3, queries = 70, keys = 135, distances = queries + keys - 1;
  const auto input = [=](OpRun& run) {
    AttentionInput in{.q = run.in("q"), .k = run.in("k"), .v = run.in("v")};
    in.distance_bias = run.in("bias");
    in.mask = {.causal = true, .window = 50, .query_start = 64};
    in.scale = 0.1;
    return in;
  };
  const Shape shape{batch, queries, heads, width}, key_shape{batch, keys, key_heads, width};
  return {
      .name = "attention_wide_" + std::to_string(width),
      .inputs = {normal("q", shape), normal("k", key_shape), normal("v", key_shape),
                 accurate_normal("bias", {heads, distances})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            attention(ctx, input(run), run.output("out", shape),
                      run.saved("lse", {batch, heads, queries}, Element::kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, 0, 1, 3};
            const TensorView by_leaf =
                run.saved("dbias", {3, heads, distances}, Element::kAccurate);
            attention_backward(ctx, input(run), run.in("out"), run.in("lse"), run.d_output("out"),
                               leaves, run.d_input("q"), run.d_input("k"), run.d_input("v"),
                               by_leaf);
            add(ctx, by_leaf.rows(1, 2).reshape({heads, distances}),
                by_leaf.rows(2, 3).reshape({heads, distances}), run.d_input("bias"));
          },
      .tolerance = {.float32 = 1e-5, .bfloat16 = 2e-2},
  };
}

OpCase large_norm() {
  const int64_t rows = 700, columns = 131;
  return {
      .name = "rms_norm",
      .inputs = {normal("x", {rows, columns})},
      .weights = {normal_weight("w", {columns})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            rms_norm(ctx, run.in("x"), run.weight("w"), 1e-6, run.output("y", {rows, columns}),
                     run.saved("inverse_rms", {rows}, Element::kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, rows};
            rms_norm_backward(ctx, run.in("x"), run.in("inverse_rms"), run.d_output("y"), leaves,
                              run.d_input("x"), Write::kOverwrite, run.weight("w"));
          },
      .tolerance = {.float32 = 5e-6},
  };
}

// Embedding, and sums over many elements.
OpCase large_ends() {
  const int64_t rows = 600, columns = 100, vocabulary = 300;
  return {
      .name = "ends",
      .inputs = {integers("ids", {rows}, 0, 40), constant("dy", {rows, columns}),
                 accurate_normal("scores", {rows, vocabulary})},
      .weights = {normal_weight("table", {vocabulary, columns})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            softmax(ctx, run.in("scores"),
                    run.output("probs", {rows, vocabulary}, Element::kAccurate));
            sum_of_squares(ctx, run.in("scores"), run.saved("squares", {1}, Element::kFloat64));
            embedding(ctx, run.weight("table"), run.in("ids"), run.exact("y", {rows, columns}));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, rows};
            embedding_gradient(ctx, run.in("ids"), run.in("dy"), leaves, run.weight("table"));
            softmax_backward(ctx, run.in("probs"), run.d_output("probs"), run.d_input("scores"),
                             Write::kOverwrite);
          },
      .tolerance = {.float32 = 5e-6},
  };
}

// Loss over a vocabulary of several panels, in more than two blocks of rows; the second call adds
// to the weight's gradient.
OpCase large_cross_entropy() {
  const int64_t rows = 2100, width = 40, vocabulary = 77;
  Numbers targets = random_integers("targets", {rows}, 0, vocabulary);
  for (size_t t = 0; t < targets.size(); t += 9) targets[t] = kIgnoredTarget;
  return {
      .name = "cross_entropy",
      .inputs = {normal("h", {rows, width}), given("targets", Element::kInt32, {rows}, targets)},
      .weights = {normal_weight("w", {vocabulary, width}, 0.2)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            linear_cross_entropy(ctx, {}, run.in("h"), run.weight("w"), run.in("targets"), {},
                                 run.output("losses", {rows}, Element::kFloat64), {}, {});
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const CrossEntropy objective{.gradient_scale = 0.5, .label_smoothing = 0.1, .z = 0.01};
            for (const char* name : {"once", "twice"}) {
              const int64_t leaves[] = {0, 1500, rows};
              linear_cross_entropy(ctx, objective, run.in("h"), run.weight("w"), run.in("targets"),
                                   leaves, run.saved(name, {rows}, Element::kFloat64),
                                   run.saved("z_losses", {rows}, Element::kFloat64),
                                   run.d_input("h"));
            }
          },
      .tolerance = {.float32 = 5e-6},
  };
}

}  // namespace

const std::vector<OpCase>& large_op_cases() {
  static const std::vector<OpCase> cases = {large_linear(260, 1000, 70),
                                            large_linear(33, 530, 1100),
                                            large_linear(1, 800, 900),
                                            large_grouped(),
                                            large_attention(true, 0),
                                            large_attention(false, 0.2),
                                            packed_attention(0),
                                            packed_attention(300),
                                            wide_attention(128, 4, 2),
                                            wide_attention(160, 1, 1),
                                            large_norm(),
                                            large_ends(),
                                            large_cross_entropy()};
  return cases;
}

}  // namespace switchyard::test
