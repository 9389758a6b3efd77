// Cases of GatingOps and SoftMixing.
#include <numeric>

#include "support/op_cases.h"

namespace switchyard::test {
namespace {

constexpr Element kAccurate = Element::kAccurate;

// A mask of zeros and ones as an input; the view of it, or none.
CaseInput mask_input(const Numbers& mask) {
  return given("mask", Element::kUint8, {static_cast<int64_t>(mask.size())}, mask);
}
TensorView mask_of(const OpRun& run, const Numbers& mask) {
  return mask.empty() ? TensorView() : run.in("mask");
}

std::string size_name(const std::string& name, const Shape& shape) {
  return name + "_" + std::to_string(shape[0]) + "x" + std::to_string(shape[1]);
}

// Positive numbers: what is normalised has no sum near 0.
Numbers positive_numbers(const std::string& name, const Shape& shape) {
  Numbers numbers = normal_numbers(name, shape);
  for (double& number : numbers) number = 0.1 + std::abs(number);
  return numbers;
}

// Gradients in two parts: half of them overwritten, then as much added.
template <typename Backward>
void in_halves(ExecContext& ctx, OpRun& run, TensorView dy, const Backward& backward) {
  const TensorView half = run.temporary("half", dy.shape(), kAccurate);
  scale(ctx, dy, 0.5, half);
  backward(half, Write::kOverwrite);
  backward(half, Write::kAccumulate);
}

OpCase sigmoid_case(const Shape& shape) {
  return {
      .name = size_name("sigmoid", shape),
      .inputs = {accurate_normal("logits", shape, 3),
                 given("far", kAccurate, {4, 1}, {-1000, -90, 90, 1000})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            sigmoid(ctx, run.in("logits"), run.output("scores", shape, kAccurate));
            sigmoid(ctx, run.in("far"), run.saved("far_scores", {4, 1}, kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            in_halves(ctx, run, run.d_output("scores"), [&](TensorView dscores, Write write) {
              sigmoid_backward(ctx, run.in("scores"), dscores, run.d_input("logits"), write);
            });
          },
  };
}

// The last row is all zero.
OpCase normalize_case(const Shape& shape) {
  CaseInput x = given("x", kAccurate, shape, positive_numbers("x", shape));
  x.differentiable = true;
  return {
      .name = size_name("normalize_rows", shape),
      .inputs = {x, given("zero", kAccurate, {1, shape[1]}, Numbers(shape[1]))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            normalize_rows(ctx, run.in("x"), 2.5, run.output("y", shape, kAccurate));
            normalize_rows(ctx, run.in("zero"), 2.5, run.saved("none", {1, shape[1]}, kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            in_halves(ctx, run, run.d_output("y"), [&](TensorView dy, Write write) {
              normalize_rows_backward(ctx, run.in("x"), 2.5, dy, run.d_input("x"), write);
            });
            normalize_rows_backward(ctx, run.in("zero"), 2.5, run.in("none"),
                                    run.saved("dzero", {1, shape[1]}, kAccurate),
                                    Write::kOverwrite);
          },
  };
}

OpCase add_row_case(const Shape& shape) {
  return {
      .name = size_name("add_row", shape),
      .inputs = {given("x", kAccurate, shape, normal_numbers("x", shape)),
                 given("row", kAccurate, {shape[1]}, normal_numbers("row", {shape[1]}))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            add_row(ctx, run.in("x"), run.in("row"), run.exact("y", shape, kAccurate));
          },
  };
}

struct GroupsCase {
  std::string name;
  int64_t tokens, experts, groups, top, each;
  int64_t levels = 1000;  // scores take so many values
};

OpCase best_groups_case(const GroupsCase& c) {
  const Shape shape = {c.tokens, c.experts};
  return {
      .name = "keep_best_groups_" + c.name,
      .inputs = {given("scores", kAccurate, shape, random_integers("scores", shape, 0, c.levels))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            keep_best_groups(ctx, run.in("scores"), c.groups, c.top, c.each,
                             run.exact("masked", shape, kAccurate));
          },
  };
}

// Noise as a router adds it, and the load that it makes smooth: the gradient of the noisy logits
// comes from both outputs.
OpCase noise_case(const Shape& shape, int64_t choices) {
  return {
      .name = size_name("noise", shape) + "_top_" + std::to_string(choices),
      .inputs = {accurate_normal("logits", shape), accurate_normal("noise_logits", shape),
                 tokens(shape[0], 4'000'000'000)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView noisy = run.output("noisy", shape, kAccurate);
            add_noise(ctx, run.in("logits"), run.in("noise_logits"),
                      {{.seed = 5, .purpose = Purpose::kRouterNoise}, run.in("token"), 3}, noisy);
            smooth_load(ctx, run.in("logits"), run.in("noise_logits"), noisy, choices,
                        run.output("load", shape, kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView dlogits = run.d_input("logits"), dnoise = run.d_input("noise_logits");
            const TensorView dnoisy = run.saved("dnoisy", shape, kAccurate);
            in_halves(ctx, run, run.d_output("load"), [&](TensorView dload, Write write) {
              smooth_load_backward(ctx, run.in("logits"), run.in("noise_logits"), run.in("noisy"),
                                   choices, dload, dlogits, dnoise, dnoisy, write);
            });
            add(ctx, dnoisy, run.d_output("noisy"), dnoisy);
            add(ctx, dlogits, dnoisy, dlogits);
            in_halves(ctx, run, dnoisy, [&](TensorView half, Write) {
              add_noise_backward(
                  ctx, run.in("noise_logits"),
                  {{.seed = 5, .purpose = Purpose::kRouterNoise}, run.in("token"), 3}, half, dnoise,
                  Write::kAccumulate);
            });
            const TensorView overwritten = run.saved("overwritten", shape, kAccurate);
            add_noise_backward(ctx, run.in("noise_logits"),
                               {{.seed = 5, .purpose = Purpose::kRouterNoise}, run.in("token"), 3},
                               dnoisy, overwritten, Write::kOverwrite);
          },
      .tolerance = {.float32 = 2e-5},  // quotients of differences
  };
}

struct GroupedCase {
  std::string name;
  Shape shape;
  std::vector<int64_t> groups;
  Numbers mask = {};  // empty: none

  int64_t count() const { return static_cast<int64_t>(groups.size()) - 1; }
  std::vector<CaseInput> with_mask(std::vector<CaseInput> inputs) const {
    if (!mask.empty()) inputs.push_back(mask_input(mask));
    return inputs;
  }
};

// The third group has nothing but tokens left out, the second none at all.
GroupedCase masked_groups() {
  return {"masked", {13, 5}, {0, 4, 4, 7, 13}, {1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 1}};
}

OpCase cv_case(const GroupedCase& c) {
  constexpr double kFactor = 0.7;
  CaseInput values = given("values", kAccurate, c.shape, positive_numbers("values", c.shape));
  values.differentiable = true;
  return {
      .name = "cv_squared_" + c.name,
      .inputs = c.with_mask({values}),
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            cv_squared(ctx, run.in("values"), mask_of(run, c.mask), c.groups,
                       run.saved("cv", {c.count()}, Element::kFloat64));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            fill_zero(ctx, run.d_input("values"));
            for (int i = 0; i < 2; ++i) {
              cv_squared_gradient(ctx, run.in("values"), mask_of(run, c.mask), c.groups,
                                  kFactor / 2, run.d_input("values"));
            }
          },
      .objective =
          [](OpRun& run) {
            const Numbers cv = run.numbers("cv");
            return kFactor * std::accumulate(cv.begin(), cv.end(), 0.0);
          },
  };
}

// Weights of 0, of more than a half, and between.
OpCase skip_case(int64_t count) {
  const Shape shape = {count, 2};
  Numbers weight = random_integers("weight", shape, 0, 700);
  for (double& number : weight) number /= 1024;
  return {
      .name = "skip_choices_" + std::to_string(count),
      .inputs = {integers("expert", shape, -1, 9), given("weight", kAccurate, shape, weight),
                 tokens(count, 17)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            skip_choices(ctx, run.in("expert"), run.in("weight"),
                         {{.seed = 5, .purpose = Purpose::kRouterNoise}, run.in("token"), 6},
                         run.exact("sent", shape, Element::kInt32),
                         run.exact("skipped", shape, Element::kInt32));
          },
  };
}

// Probabilities of few values are often tied.
OpCase choose_tokens_case(const GroupedCase& c, int64_t capacity, int64_t levels) {
  return {
      .name = "choose_tokens_" + c.name + "_" + std::to_string(capacity),
      .inputs = c.with_mask(
          {given("probs", kAccurate, c.shape, random_integers("probs", c.shape, 0, levels))}),
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            choose_tokens(ctx, run.in("probs"), mask_of(run, c.mask), c.groups, capacity,
                          run.exact("expert", c.shape, Element::kInt32));
          },
  };
}

// Large logits as well: nothing may overflow outside of logarithms.
OpCase sinkhorn_case(const GroupedCase& c, int64_t iterations, double size) {
  return {
      .name = "sinkhorn_" + c.name + "_" + std::to_string(iterations),
      .inputs = c.with_mask(
          {given("logits", kAccurate, c.shape, normal_numbers("logits", c.shape, size))}),
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            sinkhorn(ctx, run.in("logits"), mask_of(run, c.mask), c.groups, iterations,
                     run.saved("assignment", c.shape, kAccurate));
          },
  };
}

OpCase column_groups_case(const Shape& shape, int64_t groups) {
  const Shape factors = {shape[0], groups};
  return {
      .name = size_name("scale_column_groups", shape),
      .inputs = {accurate_normal("x", shape), accurate_normal("factor", factors)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            scale_column_groups(ctx, run.in("x"), run.in("factor"),
                                run.output("y", shape, kAccurate));
            sum_column_groups(ctx, run.in("x"), run.saved("sums", factors, kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            in_halves(ctx, run, run.d_output("y"), [&](TensorView dy, Write write) {
              scale_column_groups_backward(ctx, run.in("x"), run.in("factor"), dy, run.d_input("x"),
                                           run.d_input("factor"), write);
            });
          },
  };
}

OpCase join_case(int64_t count, int64_t groups, int64_t outer, int64_t each, int64_t inner) {
  return {
      .name = "join_choices_" + std::to_string(count) + "_" + std::to_string(outer) + "_of_" +
              std::to_string(groups),
      .inputs = {integers("group", {count, outer}, -1, groups),
                 integers("inner", {count * groups, inner}, 0, each)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView expert = run.exact("expert", {count, outer * inner}, Element::kInt32);
            join_choices(ctx, run.in("group"), run.in("inner"), each, expert);
            split_choices(ctx, expert, each,
                          run.exact("group_again", {count, outer}, Element::kInt32));
          },
  };
}

OpCase look_up_case(int64_t count, bool masked) {
  const Numbers mask = masked ? random_integers("mask", {count}, 0, 2) : Numbers();
  std::vector<CaseInput> inputs = {integers("table", {50}, 0, 8), integers("ids", {count}, 0, 50)};
  if (masked) inputs.push_back(mask_input(mask));
  return {
      .name = "look_up_choices_" + std::to_string(count) + (masked ? "_masked" : ""),
      .inputs = inputs,
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            look_up_choices(ctx, run.in("table"), run.in("ids"),
                            masked ? run.in("mask") : TensorView(),
                            run.exact("expert", {count, 1}, Element::kInt32));
          },
  };
}

// As a layer of soft experts that return what they get: slots from the tokens, then tokens from the
// slots, by weights of their own.
void mix(const GroupedCase& c, int64_t width, ExecContext& ctx, OpRun& run) {
  const int64_t tokens = c.shape[0], slots = c.shape[1];
  const TensorView weights = run.output("weights", c.shape, kAccurate);
  softmax_over_tokens(ctx, run.in("logits"), mask_of(run, c.mask), c.groups, weights);
  const TensorView rows = run.saved("rows", {c.count() * slots, width});
  mix_rows(ctx, weights, run.in("x"), c.groups, rows);
  const TensorView y = run.output("y", {tokens, width});
  copy(ctx, run.in("x"), y);
  unmix_rows(ctx, run.in("back"), rows, c.groups, y, Write::kAccumulate);
}

void mix_backward(const GroupedCase& c, int64_t width, ExecContext& ctx, OpRun& run) {
  const int64_t slots = c.shape[1];
  const TensorView rows = run.in("rows"), dy = run.d_output("y");
  const TensorView drows = run.saved("drows", {c.count() * slots, width});
  mix_rows(ctx, run.in("back"), dy, c.groups, drows);
  mixing_gradient(ctx, dy, rows, c.groups, run.d_input("back"), Write::kOverwrite);
  unmix_rows(ctx, run.in("weights"), drows, c.groups, run.d_input("x"), Write::kOverwrite);
  add(ctx, run.d_input("x"), dy, run.d_input("x"));
  const TensorView dweights = run.saved("dweights", c.shape, kAccurate);
  copy(ctx, run.d_output("weights"), dweights);
  mixing_gradient(ctx, run.in("x"), drows, c.groups, dweights, Write::kAccumulate);
  in_halves(ctx, run, dweights, [&](TensorView half, Write write) {
    softmax_over_tokens_backward(ctx, run.in("weights"), half, c.groups, run.d_input("logits"),
                                 write);
  });
}

OpCase mix_case(const GroupedCase& c, int64_t width) {
  return {
      .name = "mix_" + c.name,
      .inputs = c.with_mask({accurate_normal("logits", c.shape, 2),
                             normal("x", {c.shape[0], width}), accurate_normal("back", c.shape)}),
      .run = [=](ExecContext& ctx, OpRun& run) { mix(c, width, ctx, run); },
      .backward = [=](ExecContext& ctx, OpRun& run) { mix_backward(c, width, ctx, run); },
      .tolerance = {.float32 = 5e-6, .bfloat16 = 2e-2},
  };
}

}  // namespace

void add_gating_cases(std::vector<OpCase>& cases) {
  const GroupedCase masked = masked_groups();
  const GroupedCase none = {"no_tokens", {0, 3}, {0, 0, 0}};
  const GroupedCase one = {"one_token", {1, 1}, {0, 1}};
  // Large enough to be shared out among threads.
  const GroupedCase large = {"large", {900, 7}, {0, 300, 600, 900}};

  for (const Shape& shape : {Shape{0, 5}, Shape{1, 1}, Shape{33, 70}}) {
    cases.push_back(sigmoid_case(shape));
    cases.push_back(normalize_case(shape));
    cases.push_back(add_row_case(shape));
  }
  cases.push_back(best_groups_case({"of_4", 40, 12, 4, 2, 2}));
  cases.push_back(best_groups_case({"ties", 60, 12, 6, 3, 1, 3}));
  cases.push_back(best_groups_case({"all", 9, 6, 2, 2, 3}));
  cases.push_back(best_groups_case({"of_single_experts", 9, 6, 6, 1, 1}));
  cases.push_back(best_groups_case({"no_tokens", 0, 6, 2, 1, 1}));
  cases.push_back(noise_case({0, 4}, 2));
  cases.push_back(noise_case({7, 4}, 4));
  cases.push_back(noise_case({9, 6}, 2));
  cases.push_back(noise_case({70, 5}, 1));
  for (const GroupedCase& c : {masked, none, one, large}) cases.push_back(cv_case(c));
  for (const int64_t count : {0, 1, 900}) cases.push_back(skip_case(count));

  cases.push_back(choose_tokens_case(masked, 2, 1000));
  cases.push_back(choose_tokens_case(masked, 0, 1000));
  cases.push_back(choose_tokens_case(none, 3, 1000));
  cases.push_back(choose_tokens_case(one, 3, 1000));
  cases.push_back(choose_tokens_case(large, 50, 1000));
  cases.push_back(choose_tokens_case(large, 77, 4));
  cases.push_back(sinkhorn_case(masked, 1, 2));
  cases.push_back(sinkhorn_case(masked, 8, 2));
  cases.push_back(sinkhorn_case(none, 4, 2));
  cases.push_back(sinkhorn_case(one, 4, 2));
  cases.push_back(sinkhorn_case(large, 3, 300));

  cases.push_back(column_groups_case({33, 12}, 3));
  cases.push_back(column_groups_case({2, 5}, 5));
  cases.push_back(column_groups_case({0, 6}, 2));
  cases.push_back(join_case(30, 4, 2, 3, 2));
  cases.push_back(join_case(5, 1, 1, 6, 3));
  cases.push_back(join_case(0, 4, 2, 3, 2));
  cases.push_back(look_up_case(40, true));
  cases.push_back(look_up_case(3, false));
  cases.push_back(look_up_case(0, true));

  for (const GroupedCase& c : {masked, none, one}) cases.push_back(mix_case(c, 6));
  cases.push_back(mix_case({"large", {90, 24}, {0, 30, 60, 90}}, 70));
}

}  // namespace switchyard::test
