// Cases of MatMul and GroupedMatMul.
#include "support/op_cases.h"

namespace switchyard::test {
namespace {

std::string name_of_activation(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return "none";
    case Activation::kRelu:
      return "relu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kSilu:
      return "silu";
    case Activation::kRelu2:
      return "relu2";
    case Activation::kGeluTanh:
      return "gelu_tanh";
  }
  return "?";
}

constexpr Activation kActivations[] = {Activation::kNone,  Activation::kRelu,
                                       Activation::kGelu,  Activation::kSilu,
                                       Activation::kRelu2, Activation::kGeluTanh};

OpCase linear_case(int64_t rows, int64_t in, int64_t out) {
  return {
      .name =
          "linear_" + std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out),
      .inputs = {normal("x", {rows, in})},
      .weights = {normal_weight("w", {out, in})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            linear(ctx, run.in("x"), run.weight("w"), run.output("y", {rows, out}));
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, rows / 3, rows};
            linear_weight_gradient(ctx, run.in("x"), run.d_output("y"), leaves, run.weight("w"));
            linear_input_gradient(ctx, run.d_output("y"), run.weight("w"), run.d_input("x"),
                                  Write::kOverwrite);
          },
      .tolerance = {.float32 = 5e-6},
  };
}

// One row is used by two weights, one weight by two products: gradients are added.
OpCase linear_shared_case() {
  return {
      .name = "linear_shared",
      .inputs = {normal("x1", {5, 7}), normal("x2", {4, 7})},
      .weights = {normal_weight("w1", {6, 7}), normal_weight("w2", {3, 7})},
      .run =
          [](ExecContext& ctx, OpRun& run) {
            linear(ctx, run.in("x1"), run.weight("w1"), run.output("y11", {5, 6}));
            linear(ctx, run.in("x1"), run.weight("w2"), run.output("y12", {5, 3}));
            linear(ctx, run.in("x2"), run.weight("w1"), run.output("y21", {4, 6}));
          },
      .backward =
          [](ExecContext& ctx, OpRun& run) {
            Weight &w1 = run.weight("w1"), &w2 = run.weight("w2");
            const int64_t leaves5[] = {0, 5}, leaves4[] = {0, 0, 4}, none[] = {0};
            // Empty calls, as a rank without tokens makes them, change nothing.
            linear_weight_gradient(ctx, run.in("x1").rows(0, 0), run.d_output("y11").rows(0, 0),
                                   none, w1);
            linear_weight_gradient(ctx, run.in("x1"), run.d_output("y11"), leaves5, w1);
            linear_weight_gradient(ctx, run.in("x2"), run.d_output("y21"), leaves4, w1);
            linear_weight_gradient(ctx, run.in("x1"), run.d_output("y12"), leaves5, w2);
            const TensorView dx1 = run.d_input("x1");
            linear_input_gradient(ctx, run.d_output("y11"), w1, dx1, Write::kOverwrite);
            linear_input_gradient(ctx, run.d_output("y12"), w2, dx1, Write::kAccumulate);
            linear_input_gradient(ctx, run.d_output("y21"), w1, run.d_input("x2"),
                                  Write::kOverwrite);
          },
  };
}

OpCase linear_activation_case(Activation activation) {
  const int64_t rows = 9, in = 12, out = 17;
  return {
      .name = "linear_" + name_of_activation(activation),
      .inputs = {normal("x", {rows, in})},
      .weights = {normal_weight("w", {out, in}, 0.5)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            linear(
                ctx, run.in("x"), run.weight("w"), run.output("y", {rows, out}),
                {.activation = activation, .saved_pre_activation = run.saved("pre", {rows, out})});
            linear(ctx, run.in("x"), run.weight("w"), run.saved("unsaved", {rows, out}),
                   {.activation = activation});
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const int64_t leaves[] = {0, rows};
            const TensorView dpre = run.saved("dpre", {rows, out});
            activation_backward(ctx, activation, run.in("pre"), run.d_output("y"), dpre);
            linear_weight_gradient(ctx, run.in("x"), dpre, leaves, run.weight("w"));
            linear_input_gradient(ctx, dpre, run.weight("w"), run.d_input("x"), Write::kOverwrite);
          },
      .tolerance = {.float32 = 5e-6},
  };
}

// The rows of a call, with offsets that live as long as the case.
struct Ragged {
  std::vector<int64_t> offsets;
  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t rows() const { return offsets.back(); }
  RaggedRows view(const OpRun& run, bool indexed = false, bool scaled = false) const {
    RaggedRows ragged;
    ragged.offsets = offsets;
    ragged.leaf_offsets = offsets;
    if (indexed) ragged.index = run.in("index").rows(0, rows());
    if (scaled) ragged.scale = run.in("scale").rows(0, rows());
    return ragged;
  }
};

OpCase grouped_case(const std::string& name, const Ragged& ragged, int64_t in, int64_t out,
                    Activation activation) {
  const int64_t rows = ragged.rows();
  return {
      .name = "grouped_" + name,
      .inputs = {normal("x", {rows, in})},
      .weights = {normal_weight("w", {ragged.experts(), out, in}, 0.5)},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            grouped_linear(ctx, run.in("x"), RowOrder::kCompact, run.weight("w"), ragged.view(run),
                           run.output("y", {rows, out}), RowOrder::kCompact,
                           {activation, run.saved("pre", {rows, out})});
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView dpre = run.saved("dpre", {rows, out});
            activation_backward(ctx, activation, run.in("pre"), run.d_output("y"), dpre);
            grouped_weight_gradient(ctx, run.in("x"), RowOrder::kCompact, dpre, RowOrder::kCompact,
                                    ragged.view(run), run.weight("w"));
            grouped_input_gradient(ctx, dpre, RowOrder::kCompact, run.weight("w"), ragged.view(run),
                                   run.d_input("x"), RowOrder::kCompact);
          },
      .tolerance = {.float32 = 5e-6},
  };
}

// Distinct rows of a tensor of 13, some of them unnamed.
CaseInput row_index() {
  return given("index", Element::kInt32, {9}, {7, 2, 12, 0, 5, 9, 3, 11, 1});
}

const Ragged kNine{{0, 4, 4, 9}};  // the second of three experts has no rows
const Ragged kNone{{0, 0, 0, 0}};

// Rows are gathered on read and scattered on write, in forward and backward.
OpCase grouped_indexed_case(RowOrder x_order, RowOrder y_order) {
  const bool x_indexed = x_order == RowOrder::kIndexed, y_indexed = y_order == RowOrder::kIndexed;
  const int64_t x_rows = x_indexed ? 13 : 9, y_rows = y_indexed ? 13 : 9, in = 6, out = 5;
  return {
      .name = std::string("grouped") + (x_indexed ? "_gather" : "") + (y_indexed ? "_scatter" : ""),
      .inputs = {normal("x", {x_rows, in}), row_index()},
      .weights = {normal_weight("w", {3, out, in})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView y = run.output("y", {y_rows, out});
            fill_zero(ctx, y);  // rows that no index names keep their zeros
            grouped_linear(ctx, run.in("x"), x_order, run.weight("w"), kNine.view(run, true), y,
                           y_order);
          },
      .backward =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView dx = run.d_input("x");
            fill_zero(ctx, dx);
            grouped_weight_gradient(ctx, run.in("x"), x_order, run.d_output("y"), y_order,
                                    kNine.view(run, true), run.weight("w"));
            // Twice: the second call adds.
            grouped_weight_gradient(ctx, run.in("x"), x_order, run.temporary("nothing", {13, out}),
                                    y_order, kNone.view(run, true), run.weight("w"));
            grouped_input_gradient(ctx, run.d_output("y"), y_order, run.weight("w"),
                                   kNine.view(run, true), dx, x_order);
          },
  };
}

// Indexed writes are scaled by row, in both directions; the saved pre-activation is compact and
// isn't.
OpCase grouped_scaled_case() {
  const int64_t in = 6, out = 5;
  return {
      .name = "grouped_scaled_scatter",
      .inputs = {constant("x", {9, in}), constant("dy", {9, out}), row_index(),
                 given("scale", Element::kFloat32, {9}, normal_numbers("scale", {9}))},
      .weights = {normal_weight("w", {3, out, in})},
      .run =
          [=](ExecContext& ctx, OpRun& run) {
            const TensorView y = run.output("y", {13, out}), dx = run.saved("dx", {13, in});
            fill_zero(ctx, y);
            fill_zero(ctx, dx);
            grouped_linear(ctx, run.in("x"), RowOrder::kCompact, run.weight("w"),
                           kNine.view(run, true, true), y, RowOrder::kIndexed,
                           {Activation::kSilu, run.saved("pre", {9, out})});
            grouped_input_gradient(ctx, run.in("dy"), RowOrder::kCompact, run.weight("w"),
                                   kNine.view(run, true, true), dx, RowOrder::kIndexed);
            // In compact order the factors have no say.
            grouped_linear(ctx, run.in("x"), RowOrder::kCompact, run.weight("w"),
                           kNine.view(run, true, true), run.saved("unscaled", {9, out}),
                           RowOrder::kCompact);
          },
  };
}

// A gradient after another one in the same step is added to it.
OpCase grouped_accumulate_case() {
  return {
      .name = "grouped_accumulate",
      .inputs = {normal("x1", {9, 4}), normal("x2", {3, 4})},
      .weights = {normal_weight("w", {3, 5, 4})},
      .run =
          [](ExecContext& ctx, OpRun& run) {
            const Ragged three{{0, 0, 2, 3}};
            grouped_linear(ctx, run.in("x1"), RowOrder::kCompact, run.weight("w"), kNine.view(run),
                           run.output("y1", {9, 5}), RowOrder::kCompact);
            grouped_linear(ctx, run.in("x2"), RowOrder::kCompact, run.weight("w"), three.view(run),
                           run.output("y2", {3, 5}), RowOrder::kCompact);
          },
      .backward =
          [](ExecContext& ctx, OpRun& run) {
            const Ragged three{{0, 0, 2, 3}};
            Weight& w = run.weight("w");
            grouped_weight_gradient(ctx, run.in("x1"), RowOrder::kCompact, run.d_output("y1"),
                                    RowOrder::kCompact, kNine.view(run), w);
            grouped_weight_gradient(ctx, run.in("x2"), RowOrder::kCompact, run.d_output("y2"),
                                    RowOrder::kCompact, three.view(run), w);
            grouped_input_gradient(ctx, run.d_output("y1"), RowOrder::kCompact, w, kNine.view(run),
                                   run.d_input("x1"), RowOrder::kCompact);
            grouped_input_gradient(ctx, run.d_output("y2"), RowOrder::kCompact, w, three.view(run),
                                   run.d_input("x2"), RowOrder::kCompact);
          },
  };
}

}  // namespace

void add_product_cases(std::vector<OpCase>& cases) {
  cases.push_back(linear_case(5, 7, 3));
  cases.push_back(linear_case(1, 16, 16));
  cases.push_back(linear_case(0, 7, 3));
  cases.push_back(linear_case(33, 65, 17));
  cases.push_back(linear_case(64, 128, 96));
  cases.push_back(linear_case(130, 1, 1));
  cases.push_back(linear_shared_case());
  for (const Activation activation : kActivations) {
    cases.push_back(linear_activation_case(activation));
  }

  cases.push_back(grouped_case("even", {{0, 8, 16, 24, 32}}, 16, 32, Activation::kRelu));
  cases.push_back(grouped_case("odd", {{0, 1, 1, 4, 11, 28}}, 7, 13, Activation::kRelu));
  cases.push_back(grouped_case("one_row", {{0, 0, 0, 1}}, 5, 6, Activation::kRelu));
  cases.push_back(grouped_case("no_rows", {{0, 0, 0}}, 5, 6, Activation::kRelu));
  cases.push_back(grouped_case("all_to_one", {{0, 0, 70, 70}}, 33, 20, Activation::kRelu));
  cases.push_back(grouped_case("no_experts", {{0}}, 4, 6, Activation::kRelu));
  for (const Activation activation : kActivations) {
    const std::string name = name_of_activation(activation);
    cases.push_back(grouped_case(name, {{0, 3, 3, 10}}, 8, 9, activation));
  }
  cases.push_back(grouped_indexed_case(RowOrder::kIndexed, RowOrder::kCompact));
  cases.push_back(grouped_indexed_case(RowOrder::kCompact, RowOrder::kIndexed));
  cases.push_back(grouped_indexed_case(RowOrder::kIndexed, RowOrder::kIndexed));
  cases.push_back(grouped_scaled_case());
  cases.push_back(grouped_accumulate_case());
}

}  // namespace switchyard::test
