#include "optim/sgd.h"

#include <gtest/gtest.h>

#include <map>

#include "backends/reference/reference_kernels.h"
#include "optim/role_weights.h"
#include "support/backends.h"

namespace switchyard::test {
namespace {

// PyTorch's SGD, in its documentation's letters, with the decay taken off beside the step.
struct WrittenSgd {
  double mu;
  bool nesterov;
  std::map<std::string, Numbers> b;

  void update(const std::string& name, Numbers& theta, Numbers g, double gamma, double lambda) {
    Numbers& velocity = b[name];
    velocity.resize(theta.size());
    for (size_t i = 0; i < theta.size(); ++i) {
      velocity[i] = mu * velocity[i] + g[i];
      if (mu != 0) g[i] = nesterov ? g[i] + mu * velocity[i] : velocity[i];
      theta[i] = theta[i] - gamma * g[i] - gamma * lambda * theta[i];
    }
  }
};

void check_against_formula(OnlyRank& rank, DType dtype, double momentum, bool nesterov,
                           double tolerance) {
  SgdOptions options;
  options.momentum = momentum;
  options.nesterov = nesterov;
  options.weight_decay = 0.1;
  const RoleWeights owned(rank.ctx(), dtype, rank.memory());
  const std::vector<Weight*> weights = owned.pointers();
  std::map<std::string, Numbers> theta;
  for (Weight* weight : weights) theta[weight->name()] = numbers_of(rank.ctx(), weight->master());
  Sgd optimizer(options, weights);
  WrittenSgd written{momentum, nesterov, {}};
  for (int t = 0; t < 4; ++t) {
    const double rate = 0.1 * (t + 1), clip = t == 1 ? 0.25 : 1.0;
    for (Weight* weight : weights) {
      set_numbers(rank.ctx(), normal_numbers(weight->name() + std::to_string(t), weight->shape()),
                  weight->gradient());
      Numbers g = numbers_of(rank.ctx(), weight->gradient());
      for (double& value : g) value *= clip;
      const bool decays = weight->name() != "norm" && weight->name() != "position_bias";
      written.update(weight->name(), theta[weight->name()], g, rate, decays ? 0.1 : 0.0);
    }
    const uint64_t version = weights.front()->version();
    optimizer.step(rank.ctx(), {.number = t, .learning_rate = rate, .gradient_scale = clip});
    EXPECT_GT(weights.front()->version(), version);
    for (Weight* weight : weights) {
      EXPECT_LE(
          relative_difference(numbers_of(rank.ctx(), weight->master()), theta[weight->name()]),
          tolerance)
          << weight->name() << " after step " << t;
    }
  }
  EXPECT_EQ(optimizer.states().size(), momentum > 0 ? weights.size() : 0u);
  for (const OptimizerState& state : optimizer.states()) {
    EXPECT_EQ(state.name, "sgd.velocity");
    EXPECT_LE(
        relative_difference(numbers_of(rank.ctx(), state.value), written.b[state.weight->name()]),
        tolerance);
  }
}

TEST(Sgd, IsTheFormulaInFloat64) {
  OnlyRank rank(make_reference_kernels());
  check_against_formula(rank, DType::kFloat64, 0.9, false, 1e-14);
  check_against_formula(rank, DType::kFloat64, 0.9, true, 1e-14);
  check_against_formula(rank, DType::kFloat64, 0.0, false, 1e-14);
}

class SgdOnBackends : public testing::TestWithParam<BackendUnderTest> {};

TEST_P(SgdOnBackends, IsTheFormulaInFloat32) {
  if (!GetParam().usable) GTEST_SKIP() << "this machine cannot run " << GetParam().name;
  OnlyRank rank(GetParam().make());
  check_against_formula(rank, DType::kFloat32, 0.9, false, 1e-6);
  check_against_formula(rank, DType::kFloat32, 0.9, true, 1e-6);
  check_against_formula(rank, DType::kFloat32, 0.0, false, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(All, SgdOnBackends, testing::ValuesIn(backends_under_test()),
                         [](const auto& all) { return all.param.name; });

}  // namespace
}  // namespace switchyard::test
