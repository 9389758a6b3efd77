// Gradients of every operation against central differences, in float64 on the reference backend.
#include <gtest/gtest.h>

#include <cmath>

#include "support/backends.h"
#include "support/op_cases.h"

namespace switchyard::test {
namespace {

constexpr double kTolerance = 1e-6;       // of the largest element of a gradient
constexpr int64_t kCheckedElements = 64;  // of each tensor, evenly spread

std::vector<OpCase> cases_with_gradient() {
  std::vector<OpCase> cases;
  for (const OpCase& op_case : op_cases()) {
    if (op_case.backward) cases.push_back(op_case);
  }
  return cases;
}

// (objective(x + step) - objective(x - step)) / (2 step) for one element of a host tensor.
double central_difference(OpRun& run, double& x, double step) {
  const double before = x;
  x = before + step;
  run.forward();
  const double above = run.objective();
  x = before - step;
  run.forward();
  const double below = run.objective();
  x = before;
  return (above - below) / (2 * step);
}

// A step of 1e-5 of the largest element: both rounding and the third derivative's share stay small.
double step_for(TensorView x) {
  double largest = 0;
  for (int64_t i = 0; i < x.elements(); ++i) {
    largest = std::max(largest, std::abs(x.data<double>()[i]));
  }
  return 1e-5 * (largest > 0 ? largest : 1);
}

void expect_gradient(OpRun& run, const std::string& name, TensorView x, const Numbers& gradient) {
  ASSERT_EQ(static_cast<int64_t>(gradient.size()), x.elements());
  double largest = 0;
  for (const double value : gradient) {
    ASSERT_TRUE(std::isfinite(value)) << name;
    largest = std::max(largest, std::abs(value));
  }
  const double step = step_for(x);
  const int64_t stride = std::max<int64_t>(1, x.elements() / kCheckedElements);
  for (int64_t i = 0; i < x.elements(); i += stride) {
    const double expected = central_difference(run, x.data<double>()[i], step);
    EXPECT_NEAR(gradient[static_cast<size_t>(i)], expected, kTolerance * std::max(largest, 1e-3))
        << "d_" << name << "[" << i << "]";
  }
}

class Gradients : public testing::TestWithParam<OpCase> {};

TEST_P(Gradients, MatchFiniteDifferences) {
  const OpCase& op_case = GetParam();
  Device device = reference_device();
  OpRun run(op_case, device, DType::kFloat64, DType::kFloat64);
  run.forward();
  run.objective();
  run.backward();
  std::map<std::string, Numbers> gradients;
  for (const Result& result : run.results()) gradients[result.name] = result.numbers;

  for (const CaseInput& input : op_case.inputs) {
    if (!input.differentiable) continue;
    ASSERT_TRUE(gradients.contains("d_" + input.name)) << input.name;
    expect_gradient(run, input.name, run.in(input.name), gradients["d_" + input.name]);
  }
  for (const CaseWeight& weight : op_case.weights) {
    ASSERT_TRUE(gradients.contains("d_" + weight.name)) << weight.name;
    expect_gradient(run, weight.name, run.weight(weight.name).master(),
                    gradients["d_" + weight.name]);
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, Gradients, testing::ValuesIn(cases_with_gradient()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace switchyard::test
