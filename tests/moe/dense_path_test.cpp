// What stands beside a mixture, against plain float64 loops.
#include <gtest/gtest.h>

#include "moe/router_case.h"

namespace switchyard::test {
namespace {

using Besides = MoeCase::Besides;

MoeCase case_with(Besides besides) {
  TopKRouterOptions options;
  MoeCase moe_case = router_case<TopKRouter>("beside", options);
  moe_case.activation = Activation::kRelu;
  moe_case.besides = besides;
  return moe_case;
}

// The tensors named moe.shared.wi [F, D], moe.shared.wo [D, F] and moe.mix [2, D].
Numbers weight_of(RouterRun& run, const std::string& name) {
  for (Weight* weight : run.rank().layer().weights()) {
    if (weight->name() == name) return run.numbers(weight->master());
  }
  ADD_FAILURE() << "no weight " << name;
  return {};
}

// matrix [rows, columns] times x [columns].
Numbers product(const Numbers& matrix, const Numbers& x) {
  Numbers y(matrix.size() / x.size());
  for (size_t row = 0; row < y.size(); ++row) {
    for (size_t i = 0; i < x.size(); ++i) y[row] += matrix[row * x.size() + i] * x[i];
  }
  return y;
}

// The weights of a layer are a function of their names: the mixture is the same in all cases.
void expect_mixed(Besides besides) {
  RouterRun alone(case_with(Besides::kNothing)), run(case_with(besides));
  const Numbers wi = weight_of(run, "moe.shared.wi"), wo = weight_of(run, "moe.shared.wo");
  const Numbers x = run.numbers(run.rank().x());
  const size_t width = x.size() / run.tokens();
  for (size_t t = 0; t < run.tokens(); ++t) {
    const Numbers row = row_of(x, width, t);
    Numbers hidden = product(wi, row);
    for (double& feature : hidden) feature = std::max(feature, 0.0);
    const Numbers dense = product(wo, hidden), routed = row_of(alone.y(), width, t);
    Numbers share = {1, 1};
    if (besides == Besides::kResidual) share = softmax_of(product(weight_of(run, "moe.mix"), row));
    for (size_t d = 0; d < width; ++d) {
      EXPECT_NEAR(run.y()[t * width + d], share[0] * routed[d] + share[1] * dense[d], 1e-12);
    }
  }
}

TEST(DensePath, SharedExpertsAreAdded) { expect_mixed(Besides::kShared); }
TEST(DensePath, AResidualIsMixedByASoftmax) { expect_mixed(Besides::kResidual); }

}  // namespace
}  // namespace switchyard::test
