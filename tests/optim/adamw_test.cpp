#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "backends/reference/reference_kernels.h"
#include "optim/role_weights.h"
#include "support/backends.h"
#include "support/layer_rank.h"

namespace switchyard::test {
namespace {

// Algorithm 2 of Loshchilov & Hutter 2019, in its own letters and float64, with the schedule
// multiplier folded into alpha (so that the decay is alpha * lambda, as in PyTorch).
struct PaperAdamW {
  double beta1, beta2, epsilon;
  std::map<std::string, Numbers> m, v;

  void update(const std::string& name, Numbers& theta, const Numbers& g, int t, double alpha,
              double lambda) {
    Numbers& first = m[name];
    Numbers& second = v[name];
    first.resize(theta.size());
    second.resize(theta.size());
    for (size_t i = 0; i < theta.size(); ++i) {
      first[i] = beta1 * first[i] + (1 - beta1) * g[i];
      second[i] = beta2 * second[i] + (1 - beta2) * g[i] * g[i];
      const double m_hat = first[i] / (1 - std::pow(beta1, t));
      const double v_hat = second[i] / (1 - std::pow(beta2, t));
      theta[i] =
          theta[i] - alpha * m_hat / (std::sqrt(v_hat) + epsilon) - alpha * lambda * theta[i];
    }
  }
};

bool decays(const std::string& name) { return name != "norm" && name != "position_bias"; }

// Tolerance in units of the largest weight.
void check_against_paper(OnlyRank& rank, DType dtype, double tolerance) {
  AdamWOptions options;
  options.beta1 = 0.8;
  options.beta2 = 0.95;
  options.epsilon = 1e-3;  // large enough to show where it stands
  options.weight_decay = 0.1;
  const RoleWeights owned(rank.ctx(), dtype, rank.memory());
  const std::vector<Weight*> weights = owned.pointers();
  std::map<std::string, Numbers> theta;
  for (Weight* weight : weights) theta[weight->name()] = numbers_of(rank.ctx(), weight->master());

  AdamW optimizer(options, weights);
  PaperAdamW paper{options.beta1, options.beta2, options.epsilon, {}, {}};
  for (int t = 1; t <= 6; ++t) {
    const double alpha = 0.01 * t, clip = t % 2 == 0 ? 0.25 : 1.0;
    for (Weight* weight : weights) {
      // Small gradients of changing sign, and steps without any.
      Numbers g = normal_numbers(weight->name() + std::to_string(t), weight->shape(), 1e-2);
      if (t == 4) g.assign(g.size(), 0.0);
      set_numbers(rank.ctx(), g, weight->gradient());
      if (dtype == DType::kFloat32) g = numbers_of(rank.ctx(), weight->gradient());
      for (double& value : g) value *= clip;
      paper.update(weight->name(), theta[weight->name()], g, t, alpha,
                   decays(weight->name()) ? options.weight_decay : 0.0);
    }
    std::vector<uint64_t> versions;
    for (Weight* weight : weights) versions.push_back(weight->version());
    optimizer.step(rank.ctx(), {.number = t - 1, .learning_rate = alpha, .gradient_scale = clip});
    for (size_t i = 0; i < weights.size(); ++i) {
      EXPECT_GT(weights[i]->version(), versions[i]) << "backends would use stale forms";
      EXPECT_LE(relative_difference(numbers_of(rank.ctx(), weights[i]->master()),
                                    theta[weights[i]->name()]),
                tolerance)
          << weights[i]->name() << " after step " << t;
    }
  }
  size_t checked = 0;
  for (const OptimizerState& state : optimizer.states()) {
    ASSERT_TRUE(state.name == "adamw.first" || state.name == "adamw.second") << state.name;
    const Numbers& expected =
        (state.name == "adamw.first" ? paper.m : paper.v)[state.weight->name()];
    EXPECT_LE(relative_difference(numbers_of(rank.ctx(), state.value), expected), tolerance)
        << state.name << " of " << state.weight->name();
    ++checked;
  }
  EXPECT_EQ(checked, 2 * weights.size());
}

TEST(AdamW, IsThePapersAlgorithmInFloat64) {
  OnlyRank rank(make_reference_kernels());
  check_against_paper(rank, DType::kFloat64, 1e-14);
}

class AdamWOnBackends : public testing::TestWithParam<BackendUnderTest> {};

TEST_P(AdamWOnBackends, IsThePapersAlgorithmInFloat32) {
  if (!GetParam().usable) GTEST_SKIP() << "this machine cannot run " << GetParam().name;
  OnlyRank rank(GetParam().make());
  check_against_paper(rank, DType::kFloat32, 2e-6);
}

INSTANTIATE_TEST_SUITE_P(All, AdamWOnBackends, testing::ValuesIn(backends_under_test()),
                         [](const auto& all) { return all.param.name; });

// The first step moves every weight by the learning rate, whatever the gradient's size.
TEST(AdamW, FirstStepIsTheLearningRate) {
  OnlyRank rank(make_reference_kernels());
  Weight weight("w", WeightRole::kDense, DType::kFloat64, {3}, rank.memory());
  set_numbers(rank.ctx(), {1, 1, 1}, weight.master());
  set_numbers(rank.ctx(), {1e-3, -5, 400}, weight.gradient());
  AdamWOptions options;
  options.weight_decay = 0;
  Weight* const weights[] = {&weight};
  AdamW(options, weights).step(rank.ctx(), {.number = 0, .learning_rate = 0.1});
  const double* w = weight.master().data<double>();
  EXPECT_NEAR(w[0], 0.9, 1e-5);
  EXPECT_NEAR(w[1], 1.1, 1e-5);
  EXPECT_NEAR(w[2], 0.9, 1e-5);
}

}  // namespace
}  // namespace switchyard::test
