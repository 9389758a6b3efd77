#include "optim/adafactor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "backends/reference/reference_kernels.h"
#include "support/backends.h"
#include "support/layer_rank.h"

namespace switchyard::test {
namespace {

// Mesh-TensorFlow's AdafactorOptimizer (mesh_tensorflow/optimize.py) on one tensor of at most three
// dimensions, in float64 and its own terms; see docs/semantics.md.
class MeshAdafactor {
 public:
  explicit MeshAdafactor(const Shape& shape, std::optional<double> clip = 1.0)
      : size_{1, 1, 1}, clip_(clip) {
    for (int i = 0; i < shape.rank(); ++i) size_[3 - shape.rank() + i] = shape[i];
    int order[3] = {0, 1, 2};
    std::stable_sort(order, order + 3, [&](int a, int b) { return size_[a] > size_[b]; });
    d0_ = order[0];
    d1_ = order[1];
    factored_ = shape.rank() >= 2 && size_[d1_] >= 128;
  }

  void update(Numbers& w, const Numbers& g, int64_t global_step, double learning_rate) {
    const double rho = 1 - std::pow(static_cast<double>(global_step + 1), -0.8);
    Numbers grad_squared(g);
    for (double& value : grad_squared) value = value * value + 1e-30;
    Numbers u(g);
    if (factored_) {
      average(vr_, rho, mean_over(grad_squared, d0_));
      average(vc_, rho, mean_over(grad_squared, d1_));
      const Numbers long_term_mean = mean_over(vr_, d1_);  // broadcast back, as vr_ is
      for (size_t i = 0; i < u.size(); ++i) {
        u[i] *= 1 / std::sqrt(vr_[i] / long_term_mean[i]) / std::sqrt(vc_[i]);
      }
    } else {
      average(vr_, rho, grad_squared);
      for (size_t i = 0; i < u.size(); ++i) u[i] *= 1 / std::sqrt(vr_[i]);
    }
    last_rms = rms(u);
    const double clipping = clip_ ? std::max(1.0, last_rms / *clip_) : 1.0;
    const double scale = std::max(rms(w), 1e-3);
    for (size_t i = 0; i < w.size(); ++i) w[i] -= learning_rate * scale * u[i] / clipping;
  }

  double last_rms = 0;  // of u, before clipping
  bool factored() const { return factored_; }
  // Means over the larger of the factored dimensions and over the other, at every element.
  const Numbers& vr() const { return vr_; }
  const Numbers& vc() const { return vc_; }

 private:
  static double rms(const Numbers& x) {
    double sum = 0;
    for (double value : x) sum += value * value;
    return std::sqrt(sum / static_cast<double>(x.size()));
  }
  // The mean over a dimension, at every element.
  Numbers mean_over(const Numbers& x, int dimension) const {
    int64_t stride = 1;
    for (int i = 2; i > dimension; --i) stride *= size_[i];
    Numbers means(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const int64_t first = at - at / stride % size_[dimension] * stride;
      double sum = 0;
      for (int64_t k = 0; k < size_[dimension]; ++k) {
        sum += x[static_cast<size_t>(first + k * stride)];
      }
      means[i] = sum / static_cast<double>(size_[dimension]);
    }
    return means;
  }
  static void average(Numbers& mean, double rho, const Numbers& fresh) {
    mean.resize(fresh.size());
    for (size_t i = 0; i < fresh.size(); ++i) mean[i] = rho * mean[i] + (1 - rho) * fresh[i];
  }

  int64_t size_[3];
  std::optional<double> clip_;
  int d0_, d1_;
  bool factored_;
  Numbers vr_, vc_;
};

struct Tested {
  std::unique_ptr<Weight> weight;
  Numbers w;
  std::vector<MeshAdafactor> mesh;  // one, or one an expert
};

// |actual - reference| <= tolerance |reference|, element by element.
void expect_relative(const Numbers& actual, const Numbers& reference, double tolerance,
                     const std::string& what) {
  ASSERT_EQ(actual.size(), reference.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double here = std::abs(actual[i] - reference[i]) / std::abs(reference[i]);
    worst = std::isfinite(here) ? std::max(worst, here) : HUGE_VAL;
  }
  EXPECT_LE(worst, tolerance) << what;
}

// Parity 8.12's shapes, and a matrix that is wider than high.
std::vector<Tested> tested_weights(ExecContext& ctx, DType dtype, Memory& memory, bool by_layer) {
  std::vector<Tested> all;
  const auto add = [&](const std::string& name, WeightRole role, const Shape& shape) {
    ExpertRange experts;
    if (role == WeightRole::kExpert) experts = {0, shape[0], shape[0]};
    Tested tested{std::make_unique<Weight>(name, role, dtype, shape, memory, experts), {}, {}};
    // An RMS of 1e-5 is below epsilon2.
    set_numbers(ctx, normal_numbers(name, shape, name == "tiny" ? 1e-5 : 0.3),
                tested.weight->master());
    tested.w = numbers_of(ctx, tested.weight->master());
    const bool split = role == WeightRole::kExpert && !by_layer;
    const int64_t parts = split ? shape[0] : 1;
    for (int64_t i = 0; i < parts; ++i) {
      tested.mesh.emplace_back(split ? Shape{shape[1], shape[2]} : shape);
    }
    all.push_back(std::move(tested));
  };
  add("high", WeightRole::kDense, {256, 128});
  add("wide", WeightRole::kDense, {128, 200});
  add("tiny", WeightRole::kDense, {128, 128});
  add("small", WeightRole::kDense, {100, 128});
  add("experts.*.wi", WeightRole::kExpert, {4, 256, 128});
  add("few.*.wo", WeightRole::kExpert, {3, 5, 40});
  add("vector", WeightRole::kNorm, {7});
  return all;
}

// The gradients of a step: of sizes that change, so that some updates are clipped, with rows,
// and experts, that nothing reaches.
Numbers gradient_of(const Weight& weight, int t) {
  constexpr double kSizes[] = {0.01, 0.2, 1.0};
  Numbers g = normal_numbers(weight.name() + std::to_string(t), weight.shape(), kSizes[t]);
  const int64_t row = weight.shape()[-1];
  if (weight.shape().rank() >= 2) std::fill_n(g.begin() + row, row, 0.0);
  if (weight.is_expert()) {
    const int64_t expert = weight.shape()[1] * row;
    for (int64_t i = 0; i < expert; ++i) g[static_cast<size_t>(2 * expert + i)] *= 30.0;
    if (t == 1) std::fill_n(g.begin() + expert, expert, 0.0);
  }
  return g;
}

void check_against_mesh(OnlyRank& rank, DType dtype, bool by_layer, bool elementwise,
                        double tolerance) {
  AdafactorOptions options;
  options.stacked_experts = by_layer ? AdafactorOptions::StackedExperts::kLayer
                                     : AdafactorOptions::StackedExperts::kExpert;
  std::vector<Tested> all = tested_weights(rank.ctx(), dtype, rank.memory(), by_layer);
  std::vector<Weight*> weights;
  for (const Tested& tested : all) weights.push_back(tested.weight.get());
  Adafactor optimizer(options, weights, rank.rank().groups());
  int clipped = 0, unclipped = 0;
  for (int t = 0; t < 3; ++t) {
    const double rate = 0.01 * (t + 1), factor = t == 1 ? 0.5 : 1.0;
    for (Tested& tested : all) {
      set_numbers(rank.ctx(), gradient_of(*tested.weight, t), tested.weight->gradient());
      Numbers g = numbers_of(rank.ctx(), tested.weight->gradient());
      for (double& value : g) value *= factor;
      const size_t part = g.size() / tested.mesh.size();
      for (size_t i = 0; i < tested.mesh.size(); ++i) {
        const auto begin = static_cast<int64_t>(i * part), end = begin + static_cast<int64_t>(part);
        Numbers w(tested.w.begin() + begin, tested.w.begin() + end);
        tested.mesh[i].update(w, Numbers(g.begin() + begin, g.begin() + end), t, rate);
        std::copy(w.begin(), w.end(), tested.w.begin() + begin);
        ++(tested.mesh[i].last_rms > 1 + 1e-6 ? clipped : unclipped);
      }
    }
    optimizer.step(rank.ctx(), {.number = t, .learning_rate = rate, .gradient_scale = factor});
    for (const Tested& tested : all) {
      const Numbers w = numbers_of(rank.ctx(), tested.weight->master());
      const std::string what = tested.weight->name() + " after step " + std::to_string(t);
      if (elementwise) {
        expect_relative(w, tested.w, tolerance, what);
      } else {
        EXPECT_LE(relative_difference(w, tested.w), tolerance) << what;
      }
    }
  }
  EXPECT_GT(clipped, 0);
  EXPECT_GT(unclipped, 0);
}

// Parity 8.12: three steps within 1e-6 of each element.
TEST(Adafactor, IsMeshTensorFlowsInFloat64) {
  OnlyRank rank(make_reference_kernels());
  check_against_mesh(rank, DType::kFloat64, true, true, 1e-6);
  check_against_mesh(rank, DType::kFloat64, false, true, 1e-6);
}

class AdafactorOnBackends : public testing::TestWithParam<BackendUnderTest> {};

TEST_P(AdafactorOnBackends, IsMeshTensorFlowsInFloat32) {
  if (!GetParam().usable) GTEST_SKIP() << "this machine cannot run " << GetParam().name;
  OnlyRank rank(GetParam().make());
  check_against_mesh(rank, DType::kFloat32, true, false, 2e-6);
  check_against_mesh(rank, DType::kFloat32, false, false, 2e-6);
}

INSTANTIATE_TEST_SUITE_P(All, AdafactorOnBackends, testing::ValuesIn(backends_under_test()),
                         [](const auto& all) { return all.param.name; });

// One dense weight, updated step by step.
class OneWeight {
 public:
  OneWeight(const Shape& shape, const AdafactorOptions& options, double scale = 0.3)
      : rank_(make_reference_kernels()),
        weight_("w", WeightRole::kDense, DType::kFloat64, shape, rank_.memory()),
        weights_{&weight_} {
    set_numbers(rank_.ctx(), normal_numbers("w", shape, scale), weight_.master());
    optimizer_ = std::make_unique<Adafactor>(options, weights_, rank_.rank().groups());
  }

  // How the weight changes.
  Numbers step(const Numbers& gradient, int64_t number, double rate) {
    const Numbers before = numbers();
    set_numbers(rank_.ctx(), gradient, weight_.gradient());
    optimizer_->step(rank_.ctx(), {.number = number, .learning_rate = rate});
    Numbers change = numbers();
    for (size_t i = 0; i < change.size(); ++i) change[i] -= before[i];
    return change;
  }
  Numbers numbers() { return numbers_of(rank_.ctx(), weight_.master()); }
  Adafactor& optimizer() { return *optimizer_; }
  ExecContext& ctx() { return rank_.ctx(); }
  const Shape& shape() const { return weight_.shape(); }

 private:
  OnlyRank rank_;
  Weight weight_;
  Weight* weights_[1];
  std::unique_ptr<Adafactor> optimizer_;
};

double rms(const Numbers& x) {
  double sum = 0;
  for (double value : x) sum += value * value;
  return std::sqrt(sum / static_cast<double>(x.size()));
}

TEST(Adafactor, KeepsNothingOfTheMomentsAtItsFirstStep) {
  for (const int64_t offset : {0, 5}) {
    AdafactorOptions options;
    options.step_offset = offset;
    OneWeight one({130, 129}, options);
    const std::vector<OptimizerState> states = one.optimizer().states();
    ASSERT_EQ(states.size(), 2u);
    EXPECT_EQ(states[0].name, "adafactor.rows");
    EXPECT_EQ(states[0].value.shape(), Shape({130}));
    EXPECT_EQ(states[1].name, "adafactor.columns");
    EXPECT_EQ(states[1].value.shape(), Shape({129}));
    for (const OptimizerState& state : states) {
      set_numbers(one.ctx(), Numbers(static_cast<size_t>(state.value.elements()), 7.0),
                  state.value);
    }
    const Numbers g = normal_numbers("g", one.shape());
    one.step(g, offset, 0.01);
    double first_row = 0;
    for (size_t i = 0; i < 129; ++i) first_row += g[i] * g[i] / 129;
    EXPECT_NEAR(numbers_of(one.ctx(), states[0].value)[0], first_row, 1e-12);
    one.step(g, offset + 1, 0.01);  // rho is 1 - 2^-0.8 whatever the offset, and the mean the same
    EXPECT_NEAR(numbers_of(one.ctx(), states[0].value)[0], first_row, 1e-12);
    one.step(Numbers(g.size()), offset + 2, 0.01);
    EXPECT_NEAR(numbers_of(one.ctx(), states[0].value)[0], first_row * (1 - std::pow(3.0, -0.8)),
                1e-12);
  }
}

TEST(Adafactor, RowsWithoutGradientStayAndAreFinite) {
  for (const Shape& shape : {Shape{130, 129}, Shape{5, 129}}) {
    OneWeight one(shape, {});
    Numbers g = normal_numbers("g", shape);
    std::fill_n(g.begin(), shape[1], 0.0);
    for (int t = 0; t < 3; ++t) {
      const Numbers change = one.step(g, t, 0.01);
      for (int64_t i = 0; i < shape[1]; ++i) EXPECT_EQ(change[static_cast<size_t>(i)], 0.0);
      for (const double value : change) ASSERT_TRUE(std::isfinite(value));
      EXPECT_GT(rms(change), 0.0);
    }
    EXPECT_EQ(rms(one.step(Numbers(g.size()), 3, 0.01)), 0.0);
  }
}

TEST(Adafactor, SmallWeightsMoveAsThoseOfEpsilon2) {
  OneWeight tiny({130, 129}, {}, 1e-6);
  const Numbers g = normal_numbers("g", tiny.shape());
  EXPECT_NEAR(rms(tiny.step(g, 0, 0.01)), 0.01 * 1e-3, 0.01 * 1e-3 * 0.02);
  AdafactorOptions absolute;
  absolute.multiply_by_parameter_scale = false;
  OneWeight unscaled({130, 129}, absolute, 1e-6);
  EXPECT_NEAR(rms(unscaled.step(g, 0, 0.01)), 0.01, 0.01 * 0.02);
}

// A gradient that is suddenly ten times larger: its RMS is cut to the threshold.
TEST(Adafactor, ClipsByTheRmsOfTheUpdate) {
  const auto second_step = [](std::optional<double> threshold) {
    AdafactorOptions options;
    options.multiply_by_parameter_scale = false;
    options.clip_threshold = threshold;
    OneWeight one({20}, options);
    Numbers g = normal_numbers("g", one.shape());
    one.step(g, 0, 1.0);
    for (double& value : g) value *= 10;
    return rms(one.step(g, 1, 1.0));
  };
  // v = (1 - 2^-0.8) g^2 + 2^-0.8 100 g^2
  const double kept = 1 - std::pow(2.0, -0.8);
  const double update = 10 / std::sqrt(kept + 100 * (1 - kept));
  ASSERT_GT(update, 1.2);
  EXPECT_NEAR(second_step(std::nullopt), update, 1e-9);
  EXPECT_NEAR(second_step(1.0), 1.0, 1e-9);
  EXPECT_NEAR(second_step(0.25), 0.25, 1e-9);
  EXPECT_NEAR(second_step(2.0), update, 1e-9);
}

// What a checkpoint holds of an expert doesn't depend on who else is on the rank.
TEST(Adafactor, StatesHaveAnEntryForEachExpert) {
  OnlyRank rank(make_reference_kernels());
  Weight large("a.*.wi", WeightRole::kExpert, DType::kFloat64, {3, 8, 10}, rank.memory(),
               {0, 3, 3});
  Weight small("b.*.wi", WeightRole::kExpert, DType::kFloat64, {3, 7, 10}, rank.memory(),
               {0, 3, 3});
  Weight* const weights[] = {&large, &small};
  AdafactorOptions options;
  options.min_size_to_factor = 8;
  Adafactor optimizer(options, weights, rank.rank().groups());
  const std::vector<OptimizerState> states = optimizer.states();
  ASSERT_EQ(states.size(), 3u);
  EXPECT_EQ(states[0].value.shape(), Shape({3, 8}));
  EXPECT_EQ(states[1].value.shape(), Shape({3, 10}));
  EXPECT_EQ(states[2].name, "adafactor.squares");
  EXPECT_EQ(states[2].value.shape(), Shape({3, 7, 10}));
}

}  // namespace
}  // namespace switchyard::test
