// Cases of Norm, Elementwise, RandomOps, Loss and Update.
#include <cmath>

#include "support/op_cases.h"

namespace switchyard::test {
namespace {

OpCase rms_norm_case(int64_t rows, int64_t columns, double size, double epsilon,
                     NormRounding rounding = NormRounding::kOnce) {
  return {
      .name = "rms_norm_" + std::to_string(rows) + "x" + std::to_string(columns) +
              (size < 1 ? "_small" : "") +
              (rounding == NormRounding::kBeforeWeight ? "_rounded_before_weight" : ""),
      .inputs = {normal("x", {rows, columns}, size)},
      .weights = {normal_weight("w", {columns})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            rms_norm(ctx, run.in("x"), run.weight("w"), epsilon, run.output("y", {rows, columns}),
                     run.saved("inverse_rms", {rows}, Element::kAccurate), rounding);
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, rows / 2, rows};
            rms_norm_backward(ctx, run.in("x"), run.in("inverse_rms"), run.d_output("y"), leaves,
                              run.d_input("x"), Write::kOverwrite, run.weight("w"));
          },
  };
}

// The residual's gradient stands in dx already; a second call adds to the weight's gradient too.
OpCase rms_norm_residual_case() {
  return {
      .name = "rms_norm_residual",
      .inputs = {normal("x", {4, 9}), normal("z", {3, 9})},
      .weights = {normal_weight("w", {9})},
      .run =
          [](ExecContext& ctx, OpRun& run) {
            const TensorView normed = run.temporary("normed", {4, 9});
            rms_norm(ctx, run.in("x"), run.weight("w"), 1e-6, normed,
                     run.saved("inverse_x", {4}, Element::kAccurate));
            add(ctx, run.in("x"), normed, run.output("y", {4, 9}));
            rms_norm(ctx, run.in("z"), run.weight("w"), 1e-6, run.output("y2", {3, 9}),
                     run.saved("inverse_z", {3}, Element::kAccurate));
          },
      .backward =
          [](ExecContext& ctx, OpRun& run) {
            const int64_t four[] = {0, 4}, three[] = {0, 3};
            copy(ctx, run.d_output("y"), run.d_input("x"));
            rms_norm_backward(ctx, run.in("x"), run.in("inverse_x"), run.d_output("y"), four,
                              run.d_input("x"), Write::kAccumulate, run.weight("w"));
            rms_norm_backward(ctx, run.in("z"), run.in("inverse_z"), run.d_output("y2"), three,
                              run.d_input("z"), Write::kOverwrite, run.weight("w"));
          },
  };
}

// fill_zero, copy, add and scale, in place and not, with conversions.
OpCase arithmetic_case(int64_t rows) {
  const Shape shape = {rows, 11};
  return {
      .name = "arithmetic_" + std::to_string(rows) + "_rows",
      .inputs = {normal("a", shape), normal("b", shape), integers("ids", shape, -9, 9),
                 given("precise", Element::kAccurate, shape, normal_numbers("precise", shape))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView a = run.in("a"), b = run.in("b");
            const TensorView y = run.output("y", shape), exact = run.exact("exact", shape);
            fill_zero(ctx, run.exact("zero", shape));
            fill_zero(ctx, run.exact("no_ids", shape, Element::kInt64));
            copy(ctx, run.in("ids"), run.exact("same_ids", shape, Element::kInt32));
            copy(ctx, a, exact);
            copy(ctx, a, run.exact("accurate", shape, Element::kAccurate));
            copy(ctx, run.in("precise"), run.exact("rounded", shape));
            copy(ctx, a, y);          // y = a
            add(ctx, y, b, y);        // y = a + b
            add(ctx, a, y, y);        // y = 2 a + b
            scale(ctx, y, -0.75, y);  // y = -1.5 a - 0.75 b
            scale(ctx, b, 1.0 / 3.0, run.output("third", shape));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            scale(ctx, run.d_output("y"), -1.5, run.d_input("a"));
            scale(ctx, run.d_output("third"), 1.0 / 3.0, run.d_input("b"));
            const TensorView from_y = run.temporary("from_y", shape);
            scale(ctx, run.d_output("y"), -0.75, from_y);
            add(ctx, from_y, run.d_input("b"), run.d_input("b"));
          },
  };
}

// In place too: y where gate and up stand, dgate and dup where dy does.
OpCase gated_activation_case(const std::string& name, Activation activation, int64_t rows) {
  const Shape shape = {rows, 37};
  return {
      .name = "gated_" + name + "_" + std::to_string(rows) + "_rows",
      .inputs = {normal("gate", shape, 2), normal("up", shape)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView gate = run.in("gate"), up = run.in("up");
            gated_activation(ctx, activation, gate, up, run.output("y", shape));
            const TensorView on_gate = run.saved("on_gate", shape);
            copy(ctx, gate, on_gate);
            gated_activation(ctx, activation, on_gate, up, on_gate);
            const TensorView on_up = run.saved("on_up", shape);
            copy(ctx, up, on_up);
            gated_activation(ctx, activation, gate, on_up, on_up);
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView gate = run.in("gate"), up = run.in("up"), dy = run.d_output("y");
            const TensorView other = run.temporary("other", shape);
            copy(ctx, dy, run.d_input("up"));
            gated_activation_backward(ctx, activation, gate, up, run.d_input("up"), other,
                                      run.d_input("up"));
            copy(ctx, dy, run.d_input("gate"));
            gated_activation_backward(ctx, activation, gate, up, run.d_input("gate"),
                                      run.d_input("gate"), other);
          },
  };
}

OpCase embedding_case(int64_t rows) {
  return {
      .name = "embedding_" + std::to_string(rows) + "_rows",
      // Ids repeat, and 8 and 9 never come.
      .inputs = {integers("ids", {rows}, 0, 8)},
      .weights = {normal_weight("table", {10, 7})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            embedding(ctx, run.weight("table"), run.in("ids"), run.output("y", {rows, 7}));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, rows / 3, rows};
            embedding_gradient(ctx, run.in("ids"), run.d_output("y"), leaves, run.weight("table"));
          },
  };
}

// The table is the vocabulary head's weight too, whose gradient is written first.
OpCase tied_embedding_case() {
  return {
      .name = "embedding_tied",
      .inputs = {given("ids", Element::kInt32, {4}, {3, 0, 3, 2})},
      .weights = {normal_weight("table", {5, 6})},
      .run =
          [](ExecContext& ctx, OpRun& run) {
            const TensorView x = run.saved("x", {4, 6});
            embedding(ctx, run.weight("table"), run.in("ids"), x);
            linear(ctx, x, run.weight("table"), run.output("logits", {4, 5}));
          },
      .backward =
          [](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, 4};
            const TensorView dx = run.saved("dx", {4, 6});
            linear_weight_gradient(ctx, run.in("x"), run.d_output("logits"), leaves,
                                   run.weight("table"));
            linear_input_gradient(ctx, run.d_output("logits"), run.weight("table"), dx,
                                  Write::kOverwrite);
            embedding_gradient(ctx, run.in("ids"), dx, leaves, run.weight("table"));
          },
  };
}

OpCase distance_bias_case() {
  return {
      .name = "distance_bias",
      .inputs = {given("bucket", Element::kInt32, {7}, {0, 3, 3, 1, 0, 5, 1})},
      .weights = {normal_weight("table", {6, 4})},
      .run =
          [](ExecContext& ctx, OpRun& run) {
            distance_bias(ctx, run.weight("table"), run.in("bucket"),
                          run.output("bias", {4, 7}, Element::kAccurate));
          },
      .backward =
          [](ExecContext& ctx, OpRun& run) {
            // As two leaves that share the gradient out unevenly, then a call without leaves.
            const TensorView parts = run.temporary("parts", {2, 4, 7}, Element::kAccurate);
            scale(ctx, run.d_output("bias"), 0.25, parts.rows(0, 1).reshape({4, 7}));
            scale(ctx, run.d_output("bias"), 0.75, parts.rows(1, 2).reshape({4, 7}));
            distance_bias_gradient(ctx, parts, run.in("bucket"), run.weight("table"));
            distance_bias_gradient(ctx, parts.rows(0, 0), run.in("bucket"), run.weight("table"));
          },
  };
}

OpCase random_case(const std::string& name, const Shape& shape, Purpose purpose, double strength,
                   int64_t first_column = 0) {
  const bool is_jitter = purpose == Purpose::kJitter;
  const auto apply = [=](ExecContext& ctx, OpRun& run, TensorView from, TensorView to) {
    const RandomRows random = {
        {.seed = 11, .step = 5, .layer = 3, .purpose = purpose}, run.in("token"), first_column};
    is_jitter ? jitter(ctx, from, strength, random, to) : dropout(ctx, from, strength, random, to);
  };
  return {
      .name = (is_jitter ? "jitter_" : "dropout_") + name,
      .inputs = {normal("x", shape), tokens(shape[0], 1000)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            apply(ctx, run, run.in("x"), run.output("y", shape));
            const TensorView in_place = run.exact("in_place", shape);
            copy(ctx, run.in("x"), in_place);
            apply(ctx, run, in_place, in_place);
          },
      .backward = [=](ExecContext& ctx,
                      OpRun& run) { apply(ctx, run, run.d_output("y"), run.d_input("x")); },
  };
}

// Rows that are choices of tokens; the third and fourth are two of one token.
OpCase random_choices_case() {
  const Shape shape = {5, 70};
  Numbers rows;
  for (const auto& [token, choice] : {std::pair{7, 0}, {0, 1}, {9, 0}, {9, 255}, {4000, 3}}) {
    rows.push_back(static_cast<double>(random_row(token, choice)));
  }
  return {
      .name = "random_choices",
      .inputs = {constant("x", shape), given("token", Element::kInt64, {5}, rows)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const RandomRows random = {{.seed = 11, .step = 5, .layer = 3}, run.in("token")};
            dropout(ctx, run.in("x"), 0.4, random, run.output("y", shape));
            uniform(ctx, random, run.exact("uniform", shape, Element::kAccurate));
          },
  };
}

OpCase uniform_case(const Shape& shape) {
  return {
      .name = "uniform_" + std::to_string(shape[0]) + "x" + std::to_string(shape[1]),
      .inputs = {tokens(shape[0], 1000)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            uniform(ctx,
                    {{.seed = 2, .step = 8, .purpose = Purpose::kDropPriority}, run.in("token")},
                    run.exact("y", shape, Element::kAccurate));
          },
  };
}

struct CrossEntropyCase {
  std::string name;
  int64_t width, vocabulary;
  Numbers targets;
  double scale = 1;   // of the gradient
  double spread = 1;  // of the logits
  double smoothing = 0, z = 0;
  std::vector<int64_t> leaves = {};  // empty: all rows are one
  double bfloat16_tolerance = 2e-2;  // of sums of rounded logits
};

// What the gradient is of, from the logits h w^T, as its papers write it.
double training_objective(const CrossEntropyCase& c, const Numbers& h, const double* w) {
  const auto vocabulary = static_cast<size_t>(c.vocabulary), width = static_cast<size_t>(c.width);
  double sum = 0;
  for (size_t t = 0; t < c.targets.size(); ++t) {
    if (c.targets[t] == kIgnoredTarget) continue;
    Numbers row(vocabulary);
    double z = 0;
    for (size_t v = 0; v < vocabulary; ++v) {
      for (size_t d = 0; d < width; ++d) row[v] += h[t * width + d] * w[v * width + d];
      z += std::exp(row[v]);
    }
    for (size_t v = 0; v < vocabulary; ++v) {
      const bool is_target = static_cast<double>(v) == c.targets[t];
      const double wanted =
          (is_target ? 1 - c.smoothing : 0) + c.smoothing / static_cast<double>(vocabulary);
      sum -= wanted * std::log(std::exp(row[v]) / z);
    }
    sum += c.z * std::log(z) * std::log(z);
  }
  return c.scale * sum;
}

OpCase cross_entropy_case(const CrossEntropyCase& c) {
  const auto rows = static_cast<int64_t>(c.targets.size());
  const CrossEntropy objective = {
      .gradient_scale = c.scale, .label_smoothing = c.smoothing, .z = c.z};
  return {
      .name = "cross_entropy_" + c.name,
      .inputs = {normal("h", {rows, c.width}, c.spread),
                 given("targets", Element::kInt32, {rows}, c.targets)},
      .weights = {normal_weight("w", {c.vocabulary, c.width})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            linear_cross_entropy(ctx, objective, run.in("h"), run.weight("w"), run.in("targets"),
                                 {}, run.output("losses", {rows}, Element::kFloat64),
                                 run.saved("z", {rows}, Element::kFloat64), {});
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const std::vector<int64_t> leaves =
                c.leaves.empty() ? std::vector<int64_t>{0, rows} : c.leaves;
            linear_cross_entropy(ctx, objective, run.in("h"), run.weight("w"), run.in("targets"),
                                 leaves, run.saved("losses2", {rows}, Element::kFloat64),
                                 run.saved("z2", {rows}, Element::kFloat64), run.d_input("h"));
          },
      .objective =
          [=](OpRun& run) {
            return training_objective(c, run.numbers("h"), run.weight("w").master().data<double>());
          },
      .tolerance = {.float32 = 5e-6, .bfloat16 = c.bfloat16_tolerance},
  };
}

OpCase sum_of_squares_case(int64_t count) {
  return {
      .name = "sum_of_squares_" + std::to_string(count),
      .inputs = {given("x", Element::kAccurate, {count}, normal_numbers("x", {count}))},
      .run =
          [](ExecContext& ctx, OpRun& run) {
            sum_of_squares(ctx, run.in("x"), run.output("sum", {1}, Element::kFloat64));
          },
  };
}

OpCase adamw_case(const std::string& name, int64_t count, const AdamWStep& step) {
  Numbers second = normal_numbers("second", {count}, 0.1);
  for (double& value : second) value *= value;  // a mean of squares
  return {
      .name = "adamw_" + name,
      .inputs = {given("w0", Element::kAccurate, {count}, normal_numbers("w0", {count})),
                 given("g", Element::kAccurate, {count}, normal_numbers("g", {count}, 0.1)),
                 given("m0", Element::kAccurate, {count}, normal_numbers("m0", {count}, 0.1)),
                 given("v0", Element::kAccurate, {count}, second)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView w = run.output("w", {count}, Element::kAccurate);
            const TensorView m = run.saved("m", {count}, Element::kAccurate);
            const TensorView v = run.saved("v", {count}, Element::kAccurate);
            copy(ctx, run.in("w0"), w);
            copy(ctx, run.in("m0"), m);
            copy(ctx, run.in("v0"), v);
            adamw(ctx, step, w, run.in("g"), m, v);
          },
  };
}

OpCase sgd_case(const std::string& name, int64_t count, const SgdStep& step) {
  return {
      .name = "sgd_" + name,
      .inputs = {given("w0", Element::kAccurate, {count}, normal_numbers("w0", {count})),
                 given("g", Element::kAccurate, {count}, normal_numbers("g", {count}, 0.1)),
                 given("v0", Element::kAccurate, {count}, normal_numbers("v0", {count}, 0.1))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView w = run.output("w", {count}, Element::kAccurate);
            const TensorView v = run.saved("v", {count}, Element::kAccurate);
            copy(ctx, run.in("w0"), w);
            copy(ctx, run.in("v0"), v);
            sgd(ctx, step, w, run.in("g"), step.momentum > 0 ? v : TensorView());
          },
  };
}

// Both halves of Adafactor on [N, out, in], or on [N, elements].
OpCase adafactor_case(const std::string& name, const Shape& shape, const AdafactorStep& step,
                      double decay) {
  const bool factored = shape.rank() == 3;
  const int64_t count = shape[0];
  const Shape row_shape = {count, shape[1]}, column_shape = {count, shape[-1]};
  const auto squares = [](const std::string& which, const Shape& of) {
    Numbers numbers = normal_numbers(which, of, 0.1);
    for (double& value : numbers) value = value * value + 1e-4;
    return given(which, Element::kAccurate, of, numbers);
  };
  Numbers gradient = normal_numbers("g", shape, 0.1);
  if (factored && count > 0) std::fill_n(gradient.begin(), shape[2], 0.0);  // a row
  return {
      .name = "adafactor_" + name,
      .inputs = {given("w0", Element::kAccurate, shape, normal_numbers("w0", shape)),
                 given("g", Element::kAccurate, shape, gradient), squares("rows0", row_shape),
                 squares("columns0", column_shape),
                 given("sizes", Element::kFloat64, {count}, normal_numbers("sizes", {count}, 0.1))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView w = run.output("w", shape, Element::kAccurate);
            const TensorView rows = run.saved("rows", row_shape, Element::kAccurate);
            const TensorView columns = run.saved("columns", column_shape, Element::kAccurate);
            copy(ctx, run.in("w0"), w);
            copy(ctx, run.in("rows0"), rows);
            copy(ctx, run.in("columns0"), columns);
            const AdafactorMoments moments{rows, factored ? columns : TensorView()};
            adafactor_moments(ctx, step, w, run.in("g"), moments,
                              run.saved("sums", {count, 2}, Element::kFloat64));
            adafactor_update(ctx, step.gradient_scale, decay, run.in("sizes"), w, run.in("g"),
                             moments);
          },
      .tolerance = {.float32 = 4e-6},
  };
}

}  // namespace

void add_elementwise_cases(std::vector<OpCase>& cases) {
  cases.push_back(rms_norm_case(5, 48, 1, 1e-6));
  cases.push_back(rms_norm_case(1, 7, 1, 1e-6));
  cases.push_back(rms_norm_case(0, 8, 1, 1e-6));
  cases.push_back(rms_norm_case(33, 65, 1, 1e-5));
  cases.push_back(rms_norm_case(9, 33, 1, 1e-5, NormRounding::kBeforeWeight));
  cases.push_back(rms_norm_case(3, 16, 1e-3, 1e-6));  // epsilon counts as much as the mean square
  cases.push_back(rms_norm_residual_case());

  cases.push_back(arithmetic_case(0));
  cases.push_back(arithmetic_case(1));
  cases.push_back(arithmetic_case(7));
  cases.push_back(gated_activation_case("relu", Activation::kRelu, 3));
  cases.push_back(gated_activation_case("gelu", Activation::kGelu, 3));
  cases.push_back(gated_activation_case("gelu_tanh", Activation::kGeluTanh, 3));
  cases.push_back(gated_activation_case("silu", Activation::kSilu, 30));
  cases.push_back(gated_activation_case("silu", Activation::kSilu, 0));
  cases.push_back(embedding_case(0));
  cases.push_back(embedding_case(1));
  cases.push_back(embedding_case(19));
  cases.push_back(tied_embedding_case());
  cases.push_back(distance_bias_case());

  cases.push_back(random_case("tenth", {6, 13}, Purpose::kFinalDropout, 0.1));
  cases.push_back(random_case("most", {3, 64}, Purpose::kFinalDropout, 0.9));
  cases.push_back(random_case("from_column_7", {3, 300}, Purpose::kFinalDropout, 0.4, 7));
  cases.push_back(random_case("off", {3, 5}, Purpose::kFinalDropout, 0.0));
  cases.push_back(random_case("no_rows", {0, 5}, Purpose::kFinalDropout, 0.5));
  cases.push_back(random_case("hundredth", {6, 13}, Purpose::kJitter, 0.01));
  cases.push_back(random_case("large", {5, 33}, Purpose::kJitter, 0.7));
  cases.push_back(random_case("no_rows", {0, 5}, Purpose::kJitter, 0.5));

  cases.push_back(random_choices_case());
  cases.push_back(uniform_case({40, 1}));
  cases.push_back(uniform_case({3, 300}));
  cases.push_back(uniform_case({0, 2}));

  cases.push_back(cross_entropy_case({"plain", 5, 9, {0, 8, 3, 3}}));
  cases.push_back(cross_entropy_case({.name = "ignored",
                                      .width = 33,
                                      .vocabulary = 131,
                                      .targets = {-100, 7, 130, -100, 0},
                                      .scale = 0.125,
                                      .spread = 0.3,
                                      .leaves = {0, 0, 2, 5}}));
  cases.push_back(cross_entropy_case({"all_ignored", 3, 5, {-100, -100}}));
  cases.push_back(cross_entropy_case({"no_rows", 4, 5, {}}));
  cases.push_back(cross_entropy_case({"one_word", 2, 1, {0, -100}}));
  // Logits of about 40 are rounded by up to 1/8.
  cases.push_back(cross_entropy_case({.name = "large_logits",
                                      .width = 16,
                                      .vocabulary = 17,
                                      .targets = {1, 2, 16},
                                      .spread = 10,
                                      .bfloat16_tolerance = 1e-1}));
  cases.push_back(cross_entropy_case({"smoothed", 6, 9, {0, -100, 8}, 0.5, 1, 0.1}));
  cases.push_back(cross_entropy_case({"z", 12, 70, {0, -100, 69}, 0.5, 0.6, 0.0, 0.01}));
  cases.push_back(cross_entropy_case({"smoothed_z", 9, 33, {0, 5, -100, 32}, 2, 0.6, 0.2, 0.1}));

  cases.push_back(sum_of_squares_case(0));
  cases.push_back(sum_of_squares_case(1));
  cases.push_back(sum_of_squares_case(10007));
  cases.push_back(adamw_case("first", 13, {.learning_rate = 1e-2}));
  cases.push_back(adamw_case("decay", 65,
                             {.learning_rate = 3e-2,
                              .beta1 = 0.8,
                              .beta2 = 0.95,
                              .epsilon = 1e-6,
                              .weight_decay = 0.1,
                              .step = 7,
                              .gradient_scale = 0.3}));
  cases.push_back(adamw_case("empty", 0, {.learning_rate = 1e-2}));
  const SgdStep descent{
      .learning_rate = 3e-2, .momentum = 0.9, .weight_decay = 0.1, .gradient_scale = 0.3};
  SgdStep nesterov = descent, plain = descent;
  nesterov.nesterov = true;
  plain.momentum = 0;
  cases.push_back(sgd_case("momentum", 65, descent));
  cases.push_back(sgd_case("nesterov", 65, nesterov));
  cases.push_back(sgd_case("plain", 13, plain));
  cases.push_back(sgd_case("empty", 0, descent));
  const AdafactorStep later{.decay = 0.8, .gradient_scale = 0.3};
  cases.push_back(adafactor_case("first", {1, 5, 7}, {}, 0.0));
  cases.push_back(adafactor_case("matrices", {3, 65, 33}, later, 0.01));
  cases.push_back(adafactor_case("blocks", {2, 130, 300}, later, 0.01));
  cases.push_back(adafactor_case("elements", {3, 33}, later, 0.01));
  cases.push_back(adafactor_case("parts", {2, 8200}, later, 0.01));
  cases.push_back(adafactor_case("none", {0, 5, 7}, later, 0.01));
}

}  // namespace switchyard::test
