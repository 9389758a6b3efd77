// Cases of RoutingOps.
#include <numeric>

#include "support/op_cases.h"

namespace switchyard::test {
namespace {

// Logits of which the first rows are awkward: equal, far apart, huge.
Numbers awkward_logits(const Shape& shape) {
  Numbers logits = normal_numbers("logits", shape, 2);
  const size_t columns = static_cast<size_t>(shape[1]);
  for (size_t e = 0; e < columns && shape[0] >= 4; ++e) {
    logits[e] = 0.5;
    logits[columns + e] = e == 1 ? 90 : -90;
    logits[2 * columns + e] = e % 2 ? 1e30 : -1e30;
    logits[3 * columns + e] = 1000 + static_cast<double>(e);
  }
  return logits;
}

OpCase softmax_case(int64_t rows, int64_t experts) {
  const Shape shape = {rows, experts};
  return {
      .name = "softmax_" + std::to_string(rows) + "x" + std::to_string(experts),
      .inputs = {accurate_normal("logits", shape, 2),
                 given("awkward", Element::kAccurate, shape, awkward_logits(shape))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            softmax(ctx, run.in("logits"), run.output("probs", shape, Element::kAccurate));
            softmax(ctx, run.in("awkward"), run.saved("awkward_probs", shape, Element::kAccurate));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            // In two parts: overwritten with half the gradient, then as much added.
            const TensorView half = run.temporary("half", shape, Element::kAccurate);
            scale(ctx, run.d_output("probs"), 0.5, half);
            softmax_backward(ctx, run.in("probs"), half, run.d_input("logits"), Write::kOverwrite);
            softmax_backward(ctx, run.in("probs"), half, run.d_input("logits"), Write::kAccumulate);
          },
  };
}

struct TopKCase {
  std::string name;
  int64_t tokens, experts, choices;
  int64_t levels = 0;  // > 0: scores take so many values, so that most are tied
  bool masked = false;
};

OpCase top_k_case(const TopKCase& c) {
  const Shape shape = {c.tokens, c.experts};
  std::vector<CaseInput> inputs = {
      c.levels > 0 ? given("scores", Element::kAccurate, shape,
                           random_integers("scores", shape, 0, c.levels))
                   : given("scores", Element::kAccurate, shape, normal_numbers("scores", shape))};
  if (c.masked) {
    inputs.push_back(
        given("mask", Element::kUint8, {c.tokens}, random_integers("mask", {c.tokens}, 0, 2)));
  }
  return {
      .name = "choose_top_k_" + c.name,
      .inputs = inputs,
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            choose_top_k(ctx, run.in("scores"), c.masked ? run.in("mask") : TensorView(),
                         run.exact("expert", {c.tokens, c.choices}, Element::kInt32));
          },
  };
}

OpCase mask_choices_case(int64_t tokens, int64_t choices) {
  const Shape shape = {tokens, choices};
  return {
      .name = "mask_choices_" + std::to_string(tokens) + "x" + std::to_string(choices),
      .inputs = {integers("expert", shape, -1, 4),
                 given("mask", Element::kUint8, {tokens}, random_integers("mask", {tokens}, 0, 2))},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            mask_choices(ctx, run.in("expert"), run.in("mask"),
                         run.exact("masked", shape, Element::kInt32));
          },
  };
}

// Fewer keys than sources, as where choices were dropped.
OpCase row_keys_case(int64_t count, int64_t choices) {
  return {
      .name = "row_keys_" + std::to_string(count) + "_of_" + std::to_string(choices),
      .inputs = {tokens(20, 4'000'000'000), integers("source", {count + 3}, 0, 20 * choices)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            gather_row_keys(ctx, run.in("token"), run.in("source"), choices,
                            run.exact("keys", {count}, Element::kInt64));
          },
  };
}

struct CapacityCase {
  std::string name;
  int64_t tokens, experts, choices, capacity;
  std::vector<int64_t> groups;
  int64_t priority_levels = 0;  // 0: by position; > 0: priorities take so many values
};

// Choices may be -1 (padding), and repeat within a token, which a plan must count twice.
OpCase capacity_case(const CapacityCase& c) {
  const Shape shape = {c.tokens, c.choices};
  std::vector<CaseInput> inputs = {
      integers("expert", shape, -1, c.experts),
      given("weight", Element::kAccurate, shape, random_integers("weight", shape, 0, 100))};
  if (c.priority_levels > 0) {
    inputs.push_back(given("priority", Element::kAccurate, shape,
                           random_integers("priority", shape, 0, c.priority_levels)));
  }
  return {
      .name = "plan_capacity_" + c.name,
      .inputs = inputs,
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView kept = run.exact("kept", shape, Element::kInt32);
            plan_capacity(ctx, run.in("expert"),
                          c.priority_levels > 0 ? run.in("priority") : TensorView(), c.groups,
                          c.experts, c.capacity, kept);
            drop_statistics(ctx, run.in("expert"), kept, run.in("weight"),
                            run.exact("dropped", {c.choices}, Element::kInt64),
                            run.saved("weights", {2}, Element::kFloat64));
            const int64_t groups = static_cast<int64_t>(c.groups.size()) - 1;
            count_choices(ctx, kept, c.groups,
                          run.exact("counts", {groups, c.experts}, Element::kInt64));
            order_choices(ctx, kept, c.experts,
                          run.exact("source", {c.tokens * c.choices}, Element::kInt32),
                          run.exact("position", shape, Element::kInt32));
          },
  };
}

// More experts than a device counts at once.
OpCase many_experts_case(int64_t tokens, int64_t experts) {
  const Shape shape = {tokens, 2};
  return {
      .name = "order_choices_of_" + std::to_string(experts),
      .inputs = {integers("kept", shape, -1, experts)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t groups[] = {0, tokens / 3, tokens};
            count_choices(ctx, run.in("kept"), groups,
                          run.exact("counts", {2, experts}, Element::kInt64));
            order_choices(ctx, run.in("kept"), experts,
                          run.exact("source", {tokens * 2}, Element::kInt32),
                          run.exact("position", shape, Element::kInt32));
          },
  };
}

// Scores and priorities of few values are often tied.
OpCase reroute_case(const CapacityCase& c) {
  const Shape shape = {c.tokens, c.choices}, all = {c.tokens, c.experts};
  std::vector<CaseInput> inputs = {
      integers("expert", shape, -1, c.experts),
      given("scores", Element::kAccurate, all, random_integers("scores", all, 0, 6))};
  if (c.priority_levels > 0) {
    inputs.push_back(given("priority", Element::kAccurate, shape,
                           random_integers("priority", shape, 0, c.priority_levels)));
  }
  return {
      .name = "plan_reroute_" + c.name,
      .inputs = inputs,
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            plan_reroute(ctx, run.in("scores"), run.in("expert"),
                         c.priority_levels > 0 ? run.in("priority") : TensorView(), c.groups,
                         c.capacity, run.exact("kept", shape, Element::kInt32));
          },
  };
}

// The tensors of a RoutingStatistics as compared results.
RoutingStatistics statistics_of(OpRun& run, int64_t groups, int64_t experts) {
  return {.tokens = run.exact("tokens", {groups}, Element::kInt64),
          .chosen = run.exact("chosen", {groups, experts}, Element::kInt64),
          .mean_probability = run.saved("mean_probability", {groups, experts}, Element::kFloat64),
          .mean_square_lse = run.saved("mean_square_lse", {groups}, Element::kFloat64),
          .entropy = run.saved("entropy", {groups}, Element::kFloat64),
          .top_probability = run.saved("top_probability", {groups}, Element::kFloat64)};
}

struct RoutingCase {
  std::string name;
  int64_t tokens, experts, choices, width = 5, capacity = 3;
  std::vector<int64_t> groups;
  Numbers mask = {};  // empty: all tokens are real
  bool by_probability = false;
  bool weighted = true;
};

// Softmax, statistics and both losses' gradients. The objective is made of the definitions:
// factor_b * sum_g sum_e f_ge P_ge + factor_z * sum_g mean_square_lse_g. Where experts are even in
// number, f is that of pairs of experts.
OpCase router_loss_case(const RoutingCase& c) {
  constexpr double kBalance = 0.7, kZ = 0.3;
  const Shape shape = {c.tokens, c.experts};
  const int64_t groups = static_cast<int64_t>(c.groups.size()) - 1;
  const int64_t group_experts = c.experts % 2 == 0 ? 2 : 1;
  std::vector<CaseInput> inputs = {accurate_normal("logits", shape, 1.5)};
  if (!c.mask.empty()) inputs.push_back(given("mask", Element::kUint8, {c.tokens}, c.mask));
  return {
      .name = "router_losses_" + c.name,
      .inputs = inputs,
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView probs = run.saved("probs", shape, Element::kAccurate);
            const TensorView expert = run.exact("expert", {c.tokens, c.choices}, Element::kInt32);
            softmax(ctx, run.in("logits"), probs);
            choose_top_k(ctx, probs, c.mask.empty() ? TensorView() : run.in("mask"), expert);
            routing_statistics(ctx, run.in("logits"), probs, expert,
                               c.mask.empty() ? TensorView() : run.in("mask"), c.groups,
                               statistics_of(run, groups, c.experts));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const RoutingStatistics statistics = statistics_of(run, groups, c.experts);
            const TensorView dprobs = run.saved("dprobs", shape, Element::kAccurate);
            fill_zero(ctx, dprobs);
            const TensorView real = c.mask.empty() ? TensorView() : run.in("mask");
            load_balance_gradient(ctx, real, c.groups, statistics, c.choices, group_experts,
                                  kBalance, dprobs);
            softmax_backward(ctx, run.in("probs"), dprobs, run.d_input("logits"),
                             Write::kOverwrite);
            router_z_gradient(ctx, run.in("logits"), real, c.groups, statistics, kZ,
                              run.d_input("logits"));
          },
      .objective =
          [=](OpRun& run) {
            const Numbers tokens = run.numbers("tokens"), chosen = run.numbers("chosen");
            const Numbers probability = run.numbers("mean_probability");
            const Numbers z = run.numbers("mean_square_lse");
            double value = kZ * std::accumulate(z.begin(), z.end(), 0.0);
            for (size_t i = 0; i < chosen.size(); ++i) {
              const double real = tokens[i / static_cast<size_t>(c.experts)];
              if (real == 0) continue;
              const auto first =
                  chosen.begin() + static_cast<int64_t>(i) / group_experts * group_experts;
              value += kBalance * probability[i] *
                       std::accumulate(first, first + group_experts, 0.0) /
                       (static_cast<double>(c.choices) * real);
            }
            return value;
          },
  };
}

// From logits to the combined rows, as a layer of experts that return what they get.
void route(const RoutingCase& c, ExecContext& ctx, OpRun& run) {
  const Shape choices = {c.tokens, c.choices};
  const int64_t groups = static_cast<int64_t>(c.groups.size()) - 1;
  const TensorView probs = run.saved("probs", {c.tokens, c.experts}, Element::kAccurate);
  const TensorView expert = run.exact("expert", choices, Element::kInt32);
  const TensorView weight = run.output("weight", choices, Element::kAccurate);
  const TensorView kept = run.exact("kept", choices, Element::kInt32);
  const TensorView counts = run.exact("counts", {groups, c.experts}, Element::kInt64);
  const TensorView source = run.exact("source", {c.tokens * c.choices}, Element::kInt32);
  const TensorView position = run.exact("position", choices, Element::kInt32);
  softmax(ctx, run.in("logits"), probs);
  choose_top_k(ctx, probs, c.mask.empty() ? TensorView() : run.in("mask"), expert);
  gather_choices(ctx, probs, expert, weight);
  plan_capacity(ctx, expert, c.by_probability ? weight : TensorView(), c.groups, c.experts,
                c.capacity, kept);
  count_choices(ctx, kept, c.groups, counts);
  order_choices(ctx, kept, c.experts, source, position);
  int64_t count = 0;
  for (const int64_t rows : read_back_as<int64_t>(ctx, counts)) count += rows;
  const TensorView rows = run.exact("rows", {count, c.width});
  gather_rows(ctx, run.in("x"), source, c.choices, rows);
  combine_rows(ctx, rows, position, c.weighted ? weight : TensorView(),
               run.output("y", {c.tokens, c.width}));
}

void route_backward(const RoutingCase& c, ExecContext& ctx, OpRun& run) {
  const TensorView rows = run.in("rows"), drows = run.saved("drows", rows.shape());
  const TensorView weight = c.weighted ? run.in("weight") : TensorView();
  const TensorView dweight = run.saved("dweight", {c.tokens, c.choices}, Element::kAccurate);
  fill_zero(ctx, dweight);
  combine_rows_backward(ctx, rows, run.in("source"), run.in("position"), weight, run.d_output("y"),
                        drows, c.weighted ? dweight : TensorView());
  // The weights are an output of their own as well.
  add(ctx, dweight, run.d_output("weight"), dweight);
  const TensorView dprobs = run.saved("dprobs", {c.tokens, c.experts}, Element::kAccurate);
  fill_zero(ctx, dprobs);
  gather_choices_backward(ctx, run.in("expert"), dweight, dprobs);
  softmax_backward(ctx, run.in("probs"), dprobs, run.d_input("logits"), Write::kOverwrite);
  // The transpose of gathering: each token sums its rows.
  combine_rows(ctx, drows, run.in("position"), {}, run.d_input("x"));
}

OpCase route_case(const RoutingCase& c) {
  std::vector<CaseInput> inputs = {accurate_normal("logits", {c.tokens, c.experts}, 1.5),
                                   normal("x", {c.tokens, c.width})};
  if (!c.mask.empty()) inputs.push_back(given("mask", Element::kUint8, {c.tokens}, c.mask));
  return {
      .name = "route_" + c.name,
      .inputs = inputs,
      .run = [c](ExecContext& ctx, OpRun& run) { route(c, ctx, run); },
      .backward = [c](ExecContext& ctx, OpRun& run) { route_backward(c, ctx, run); },
  };
}

}  // namespace

void add_routing_cases(std::vector<OpCase>& cases) {
  cases.push_back(softmax_case(0, 5));
  cases.push_back(softmax_case(1, 1));
  cases.push_back(softmax_case(7, 5));
  cases.push_back(softmax_case(33, 70));

  cases.push_back(top_k_case({.name = "one", .tokens = 40, .experts = 7, .choices = 1}));
  cases.push_back(top_k_case({.name = "all", .tokens = 9, .experts = 5, .choices = 5}));
  cases.push_back(
      top_k_case({.name = "masked", .tokens = 40, .experts = 6, .choices = 2, .masked = true}));
  cases.push_back(
      top_k_case({.name = "ties", .tokens = 60, .experts = 9, .choices = 4, .levels = 3}));
  cases.push_back(
      top_k_case({.name = "all_equal", .tokens = 5, .experts = 33, .choices = 3, .levels = 1}));
  cases.push_back(top_k_case({.name = "no_tokens", .tokens = 0, .experts = 5, .choices = 2}));

  cases.push_back(mask_choices_case(30, 1));
  cases.push_back(mask_choices_case(7, 3));
  cases.push_back(mask_choices_case(0, 2));
  cases.push_back(row_keys_case(25, 1));
  cases.push_back(row_keys_case(31, 3));
  cases.push_back(row_keys_case(0, 2));

  cases.push_back(capacity_case({"zero", 12, 4, 2, 0, {0, 5, 12}}));
  cases.push_back(capacity_case({"tight", 30, 3, 2, 2, {0, 10, 10, 30}}));
  cases.push_back(capacity_case({"ample", 30, 5, 3, 1000, {0, 30}}));
  cases.push_back(capacity_case({"priority", 40, 3, 2, 4, {0, 13, 40}, 1000}));
  cases.push_back(capacity_case({"tied_priority", 40, 3, 2, 4, {0, 40}, 3}));
  cases.push_back(capacity_case({"no_tokens", 0, 3, 2, 4, {0, 0, 0}}));
  cases.push_back(capacity_case({"one_token", 1, 1, 1, 1, {0, 1}}));
  // Large enough to be cut up: in groups, runs of choices, experts.
  cases.push_back(capacity_case({"large", 700, 70, 2, 9, {0, 300, 300, 700}}));
  cases.push_back(capacity_case({"large_priority", 700, 40, 2, 11, {0, 290, 700}, 100000}));
  cases.push_back(capacity_case({"large_tied_priority", 700, 6, 2, 90, {0, 290, 700}, 5}));
  cases.push_back(many_experts_case(9000, 5));
  cases.push_back(many_experts_case(300, 4500));
  cases.push_back(reroute_case({"zero", 12, 4, 2, 0, {0, 5, 12}}));
  cases.push_back(reroute_case({"tight", 30, 3, 2, 2, {0, 10, 10, 30}}));
  cases.push_back(reroute_case({"ample", 30, 5, 3, 1000, {0, 30}}));
  cases.push_back(reroute_case({"priority", 40, 6, 2, 7, {0, 13, 40}, 1000}));
  cases.push_back(reroute_case({"tied_priority", 40, 3, 2, 12, {0, 40}, 3}));
  cases.push_back(reroute_case({"large_priority", 333, 40, 2, 7, {0, 130, 333}, 100000}));
  cases.push_back(reroute_case({"no_tokens", 0, 3, 2, 4, {0, 0, 0}}));

  const RoutingCase masked = {.name = "masked",
                              .tokens = 13,
                              .experts = 5,
                              .choices = 2,
                              .groups = {0, 4, 4, 7, 13},
                              // The third group has padding alone.
                              .mask = {1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 1}};
  RoutingCase by_probability = masked;
  by_probability.name = "by_probability";
  by_probability.by_probability = true;
  RoutingCase unweighted = masked;
  unweighted.name = "unweighted";
  unweighted.weighted = false;
  const RoutingCase top_one = {
      .name = "top_one", .tokens = 20, .experts = 6, .choices = 1, .groups = {0, 20}};
  const RoutingCase one_token = {
      .name = "one_token", .tokens = 1, .experts = 3, .choices = 3, .groups = {0, 1}};
  const RoutingCase no_room = {
      .name = "no_room", .tokens = 6, .experts = 3, .choices = 2, .capacity = 0, .groups = {0, 6}};
  const RoutingCase no_tokens = {
      .name = "no_tokens", .tokens = 0, .experts = 3, .choices = 2, .groups = {0, 0}};
  const RoutingCase wide = {.name = "wide",
                            .tokens = 65,
                            .experts = 7,
                            .choices = 3,
                            .width = 33,
                            .capacity = 10,
                            .groups = {0, 32, 65}};
  const RoutingCase in_vectors = {.name = "in_vectors",
                                  .tokens = 11,
                                  .experts = 8,
                                  .choices = 2,
                                  .width = 264,
                                  .capacity = 3,
                                  .groups = {0, 5, 11}};
  const RoutingCase large = {.name = "large",
                             .tokens = 530,
                             .experts = 36,
                             .choices = 2,
                             .width = 4,
                             .capacity = 20,
                             .groups = {0, 270, 530}};
  for (const RoutingCase& c : {masked, top_one, one_token, no_tokens, wide, in_vectors, large}) {
    cases.push_back(router_loss_case(c));
    cases.push_back(route_case(c));
  }
  for (const RoutingCase& c : {by_probability, unweighted, no_room}) cases.push_back(route_case(c));
}

}  // namespace switchyard::test
