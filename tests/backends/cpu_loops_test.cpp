// The vector loops by themselves, on every instruction set: accuracy of the elementary functions,
// random numbers as base/random.h defines them, and results that don't depend on where in a vector
// an element stands.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "backends/cpu/cpu_isa.h"
#include "backends/cpu/loop_random.h"
#include "tensor/bfloat16.h"

namespace switchyard::cpu {
namespace {

class CpuLoops : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!is_usable(GetParam())) {
      GTEST_SKIP() << name_of(GetParam()) << " cannot run on this machine";
    }
  }
  const VectorLoops& loops() { return loops_of(GetParam()); }
};

// Numbers of both signs, dense near 0 and over [-limit, limit].
std::vector<float> sweep(float limit) {
  std::vector<float> x;
  for (int i = -40000; i <= 40000; ++i) x.push_back(limit * static_cast<float>(i) / 40000.0f);
  for (float tiny = 1e-30f; tiny < 1.0f; tiny *= 1.07f) {
    x.push_back(tiny);
    x.push_back(-tiny);
  }
  return x;
}

double ulp_of(double x) {
  const float rounded =
      std::max(std::abs(static_cast<float>(x)), std::numeric_limits<float>::min());
  return static_cast<double>(std::nextafter(rounded, std::numeric_limits<float>::infinity())) -
         static_cast<double>(rounded);
}

TEST_P(CpuLoops, ExpIsWithinTwoUlp) {
  const std::vector<float> x = sweep(87.0f);
  std::vector<float> y(x.size());
  loops().exp(static_cast<int64_t>(x.size()), x.data(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    ASSERT_LE(std::abs(static_cast<double>(y[i]) - exact), 2 * ulp_of(exact)) << x[i];
  }
}

TEST_P(CpuLoops, ExpAtTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0f,
                                -0.0f,
                                88.5f,
                                89.0f,
                                1e30f,
                                infinity,
                                -88.0f,
                                -200.0f,
                                std::numeric_limits<float>::lowest(),
                                -infinity,
                                std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> y(x.size());
  loops().exp(static_cast<int64_t>(x.size()), x.data(), y.data());
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], 1.0f);
  EXPECT_NEAR(y[2] / std::exp(88.5f), 1.0f, 1e-6f);
  for (size_t i = 3; i <= 5; ++i) EXPECT_EQ(y[i], infinity) << x[i];
  for (size_t i = 6; i <= 9; ++i) EXPECT_EQ(y[i], 0.0f) << x[i];
  EXPECT_TRUE(std::isnan(y[10]));
}

double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

TEST_P(CpuLoops, ActivationsAndTheirDerivativesAreAccurate) {
  const std::vector<float> x = sweep(12.0f);
  const int64_t n = static_cast<int64_t>(x.size());
  const std::vector<float> ones(x.size(), 1.0f);
  const auto expect_close = [&](int kind, auto value, auto slope) {
    std::vector<float> y(x.size()), dy(x.size());
    loops().activation(kind, n, x.data(), y.data());
    loops().activation_backward(kind, n, x.data(), ones.data(), dy.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double at = static_cast<double>(x[i]);
      // Absolute beside 1: gelu's tail is a difference of nearly equal numbers, as with erf itself.
      ASSERT_NEAR(static_cast<double>(y[i]), value(at), 4e-7 * std::max(1.0, std::abs(value(at))))
          << kind << " at " << x[i];
      ASSERT_NEAR(static_cast<double>(dy[i]), slope(at), 1e-6 * std::max(1.0, std::abs(at)))
          << kind << " slope at " << x[i];
    }
  };
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  expect_close(
      kLoopNone, [](double v) { return v; }, [](double) { return 1.0; });
  expect_close(
      kLoopRelu, [](double v) { return v > 0 ? v : 0; }, [](double v) { return v > 0 ? 1.0 : 0; });
  expect_close(kLoopGelu, gelu, [](double v) {
    return 0.5 * std::erfc(-v / std::sqrt(2.0)) +
           v * std::exp(-v * v / 2) / std::sqrt(2 * std::acos(-1.0));
  });
  expect_close(
      kLoopSilu, [&](double v) { return v * sigmoid(v); },
      [&](double v) { return sigmoid(v) * (1 + v * (1 - sigmoid(v))); });
  const auto tanh_of = [](double v) {
    return std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v));
  };
  expect_close(
      kLoopGeluTanh, [&](double v) { return 0.5 * v * (1 + tanh_of(v)); },
      [&](double v) {
        const double t = tanh_of(v);
        return 0.5 * (1 + t) +
               0.5 * v * (1 - t * t) * std::sqrt(2 / std::acos(-1.0)) * (1 + 3 * 0.044715 * v * v);
      });
  expect_close(
      kLoopRelu2, [](double v) { return v > 0 ? v * v : 0; },
      [](double v) { return v > 0 ? 2 * v : 0; });
}

// A NaN must reach the loss, where it is looked for.
TEST_P(CpuLoops, NotANumberStaysOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x(40, nan);
  std::vector<float> y(x.size());
  for (const int kind : {kLoopNone, kLoopRelu, kLoopGelu, kLoopSilu, kLoopRelu2, kLoopGeluTanh}) {
    loops().activation(kind, 40, x.data(), y.data());
    for (const float value : y) EXPECT_TRUE(std::isnan(value)) << kind;
  }
  std::vector<float> logits(40, 1.0f);
  logits[17] = nan;
  float max = 0;
  EXPECT_TRUE(std::isnan(loops().softmax(40, logits.data(), y.data(), &max)));
}

// Whole vectors and the rest of a row are different machine code; which of them computes an element
// depends on the number of threads and on the other rows.
TEST_P(CpuLoops, AnElementsPlaceDoesNotMatter) {
  const std::vector<float> x = sweep(9.0f);
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<float> together(x.size()), alone(x.size());
  const auto expect_same = [&](const char* what, auto apply) {
    apply(n, x.data(), together.data());
    for (int64_t i = 0; i < n; ++i) apply(1, x.data() + i, alone.data() + i);
    EXPECT_EQ(together, alone) << what;
    for (int64_t i = 0; i < n; i += 37) {
      apply(std::min<int64_t>(37, n - i), x.data() + i, alone.data() + i);
    }
    EXPECT_EQ(together, alone) << what;
  };
  for (const int kind : {kLoopRelu, kLoopGelu, kLoopSilu, kLoopRelu2, kLoopGeluTanh}) {
    expect_same("activation", [&](int64_t count, const float* from, float* to) {
      loops().activation(kind, count, from, to);
    });
    expect_same("derivative", [&](int64_t count, const float* from, float* to) {
      loops().activation_backward(kind, count, from, from, to);
    });
  }
  expect_same("exp",
              [&](int64_t count, const float* from, float* to) { loops().exp(count, from, to); });
  const LoopAdamW step{.beta1 = 0.9f,
                       .beta2 = 0.99f,
                       .rest1 = 0.1f,
                       .rest2 = 0.01f,
                       .epsilon = 1e-8f,
                       .gradient_scale = 0.7f,
                       .step_size = 0.01f,
                       .inverse_root_correct = 1.3f,
                       .decay = 0.001f};
  expect_same("adamw", [&](int64_t count, const float* from, float* to) {
    std::vector<float> first(from, from + count), second(static_cast<size_t>(count), 0.5f);
    std::copy_n(from, count, to);
    loops().adamw(count, &step, from, to, first.data(), second.data());
  });
  const LoopSgd descent{.momentum = 0.9f,
                        .gradient_scale = 0.7f,
                        .from_gradient = 1.0f,
                        .from_velocity = 0.9f,
                        .step_size = 0.01f,
                        .decay = 0.001f};
  expect_same("sgd", [&](int64_t count, const float* from, float* to) {
    std::vector<float> velocity(from, from + count);
    std::copy_n(from, count, to);
    loops().sgd(count, &descent, from, to, velocity.data());
  });
  expect_same("adafactor", [&](int64_t count, const float* from, float* to) {
    std::vector<float> v(static_cast<size_t>(count), 0.5f), u(v);
    loops().decay_squares(count, from, 0.7f, 1e-30f, 0.3f, 0.7f, v.data());
    loops().divide_by_root(count, from, v.data(), 0.7f, u.data());
    std::copy_n(from, count, to);
    loops().add_squares(count, from, to);
    loops().decayed_step(count, 0.1f, u.data(), 0.001f, to);
  });
}

// The host's type has tests of its own; here every lane and the rest of a row.
TEST_P(CpuLoops, ConversionsAreThoseOfTheHostsType) {
  std::vector<float> x = sweep(3e38f);
  for (uint32_t bits = 0x7F7F0000; bits < 0x7F820000; bits += 0x1FFF) {  // to infinity, and NaN
    x.push_back(std::bit_cast<float>(bits));
    x.push_back(std::bit_cast<float>(bits | 0x80000000u));
  }
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<uint16_t> narrow(x.size());
  std::vector<float> wide(x.size());
  loops().narrow(n, x.data(), narrow.data());
  loops().widen(n, narrow.data(), wide.data());
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(narrow[i], BFloat16(x[i]).bits()) << x[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), uint32_t{narrow[i]} << 16) << x[i];
  }
}

TEST_P(CpuLoops, UniformNumbersAreThoseOfTheKey) {
  const RandomKey key{
      .seed = 0x123456789ABCDEFull, .step = 77, .layer = 513, .purpose = Purpose::kExpertDropout};
  const int64_t token = 0xFFFFFF01;
  for (const int64_t n : {1, 64, 65, 300}) {
    std::vector<float> u(static_cast<size_t>((n + 63) / 64 * 64));
    LoopRandom row = loop_random(key, token, 200);
    row.first_block = 5;
    loops().uniform(&row, n, u.data());
    for (int64_t i = 0; i < n; ++i) {
      const float expected =
          random_uniform(key, static_cast<uint32_t>(token), 200, static_cast<uint32_t>(20 + i));
      ASSERT_EQ(u[static_cast<size_t>(i)], expected) << i << " of " << n;
    }
  }
}

// Every lane of accumulator n goes through a <- f a + 1 from n, whose closed form is known.
TEST_P(CpuLoops, MultiplyAddsAreAllDone) {
  const int64_t elements = loops().tile_rows * loops().tile_columns;
  const int64_t accumulators = 2 * loops().tile_rows;  // of elements / accumulators lanes
  const auto count = static_cast<double>(elements);
  const double starts = count * static_cast<double>(accumulators - 1) / 2;
  EXPECT_EQ(loops().multiply_adds(0, 0.5f), starts);
  EXPECT_EQ(loops().multiply_adds(1, 0.5f), starts / 2 + count);
  EXPECT_EQ(loops().multiply_adds(4, 0.5f), starts / 16 + count * 1.875);
  EXPECT_EQ(loops().multiply_adds(3, 2.0f), starts * 8 + count * 7);
}

INSTANTIATE_TEST_SUITE_P(Isa, CpuLoops, testing::Values(Isa::kAvx512, Isa::kAvx2, Isa::kPortable),
                         [](const auto& parameter) {
                           return std::string(name_of(parameter.param));
                         });

}  // namespace
}  // namespace switchyard::cpu
