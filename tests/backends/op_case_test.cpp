// Every backend computes every operation as the reference does: float activations against the
// reference in float64, within the case's tolerance; choices, positions and everything else that is
// exact against the reference in the same dtype, bit by bit.
#include <gtest/gtest.h>

#include "support/backend_cases.h"
#include "support/op_cases.h"

namespace switchyard::test {
namespace {

std::vector<Result> results_of(const OpCase& op_case, Device& device, DType dtype, DType rounding) {
  OpRun run(op_case, device, dtype, rounding);
  run.forward();
  if (op_case.backward) run.backward();
  return run.results();
}

void expect_equal(const OpCase& op_case, DType dtype, const std::vector<Result>& actual,
                  const std::vector<Result>& precise, const std::vector<Result>& same_dtype) {
  ASSERT_EQ(actual.size(), precise.size());
  ASSERT_FALSE(actual.empty());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].name, precise[i].name);
    ASSERT_EQ(actual[i].shape, precise[i].shape) << actual[i].name;
    if (actual[i].exact) {
      EXPECT_EQ(actual[i].numbers, same_dtype[i].numbers) << actual[i].name;
    } else {
      EXPECT_LE(relative_difference(actual[i].numbers, precise[i].numbers),
                op_case.tolerance.of(dtype))
          << actual[i].name << " " << actual[i].shape;
    }
  }
}

class Backends : public testing::TestWithParam<BackendCase> {};

TEST_P(Backends, AgreeWithTheReference) {
  const OpCase& op_case = *GetParam().op_case;
  const DType dtype = GetParam().dtype;
  const BackendUnderTest backend = backends_under_test()[GetParam().backend];
  if (!backend.usable) GTEST_SKIP() << backend.name << " cannot run on this machine";
  Device device(backend.make());
  Device oracle = reference_device();
  const std::vector<Result> actual = results_of(op_case, device, dtype, dtype);
  const std::vector<Result> precise = results_of(op_case, oracle, DType::kFloat64, dtype);
  const std::vector<Result> same_dtype = results_of(op_case, oracle, dtype, dtype);

  expect_equal(op_case, dtype, actual, precise, same_dtype);
  if (op_case.weights.empty() || !op_case.backward) return;
  SCOPED_TRACE("ordered");
  device.order_sums(1, 1);
  expect_equal(op_case, dtype, results_of(op_case, device, dtype, dtype), precise, same_dtype);
  EXPECT_EQ(device.refused(), 0);
}

INSTANTIATE_TEST_SUITE_P(Operations, Backends, testing::ValuesIn(on_every_backend(op_cases())),
                         [](const auto& parameter) { return parameter.param.name(); });

}  // namespace
}  // namespace switchyard::test
