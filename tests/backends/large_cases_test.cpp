// Every backend where its work is cut up, against the reference in float64; gradients of weights
// summed in any order, and in order.
#include <gtest/gtest.h>

#include "support/backends.h"
#include "support/op_cases_large.h"

namespace switchyard::test {
namespace {

struct Parameter {
  size_t backend;  // in backends_under_test()
  DType dtype;
  size_t op_case;  // in large_op_cases()
};

std::string name_of_parameter(const Parameter& parameter) {
  return backends_under_test()[parameter.backend].name + "_" +
         std::string(name_of(parameter.dtype)) + "_" + large_op_cases()[parameter.op_case].name;
}

void PrintTo(const Parameter& parameter, std::ostream* out) {
  *out << name_of_parameter(parameter);
}

std::vector<Parameter> parameters() {
  std::vector<Parameter> parameters;
  const std::vector<BackendUnderTest> backends = backends_under_test();
  for (size_t backend = 0; backend < backends.size(); ++backend) {
    for (const DType dtype : backends[backend].dtypes) {
      for (size_t i = 0; i < large_op_cases().size(); ++i)
        parameters.push_back({backend, dtype, i});
    }
  }
  return parameters;
}

std::vector<Result> results_of(const OpCase& op_case, Device& device, DType dtype, DType rounding) {
  OpRun run(op_case, device, dtype, rounding);
  run.forward();
  run.backward();
  return run.results();
}

class LargeCases : public testing::TestWithParam<Parameter> {};

TEST_P(LargeCases, AgreeWithTheReference) {
  const OpCase& op_case = large_op_cases()[GetParam().op_case];
  const DType dtype = GetParam().dtype;
  const BackendUnderTest backend = backends_under_test()[GetParam().backend];
  if (!backend.usable) GTEST_SKIP() << backend.name << " cannot run on this machine";
  Device device(backend.make());
  Device oracle = reference_device();
  const std::vector<Result> expected = results_of(op_case, oracle, DType::kFloat64, dtype);
  const auto expect_equal = [&] {
    const std::vector<Result> actual = results_of(op_case, device, dtype, dtype);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LE(relative_difference(actual[i].numbers, expected[i].numbers),
                op_case.tolerance.of(dtype))
          << actual[i].name;
    }
  };
  expect_equal();
  if (op_case.weights.empty()) return;
  SCOPED_TRACE("ordered");
  device.order_sums(2, 2100);  // as many as any case has
  expect_equal();
  EXPECT_EQ(device.refused(), 0);
}

INSTANTIATE_TEST_SUITE_P(Operations, LargeCases, testing::ValuesIn(parameters()),
                         [](const auto& parameter) { return name_of_parameter(parameter.param); });

}  // namespace
}  // namespace switchyard::test
