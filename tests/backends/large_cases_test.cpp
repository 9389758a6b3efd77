// Every backend where its work is cut up, against the reference in float64; gradients of weights
// summed in any order, and in order.
#include <gtest/gtest.h>

#include "support/backend_cases.h"
#include "support/op_cases_large.h"

namespace switchyard::test {
namespace {

std::vector<Result> results_of(const OpCase& op_case, Device& device, DType dtype, DType rounding) {
  OpRun run(op_case, device, dtype, rounding);
  run.forward();
  run.backward();
  return run.results();
}

class LargeCases : public testing::TestWithParam<BackendCase> {};

TEST_P(LargeCases, AgreeWithTheReference) {
  const OpCase& op_case = *GetParam().op_case;
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

INSTANTIATE_TEST_SUITE_P(Operations, LargeCases,
                         testing::ValuesIn(on_every_backend(large_op_cases())),
                         [](const auto& parameter) { return parameter.param.name(); });

}  // namespace
}  // namespace switchyard::test
