// Dropout and jitter: the numbers that the key says, in the right proportions, and none that show
// where in the call (and so on which rank) a token stood.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/each_backend.h"
#include "support/op_case.h"

namespace switchyard::test {
namespace {

using RandomOpsTest = EachBackend;

constexpr RandomKey kKey{.seed = 3, .step = 9, .layer = 4, .purpose = Purpose::kFfnOutputDropout};

std::vector<int64_t> counting(int64_t count, int64_t first) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

TEST_P(RandomOpsTest, DropoutDropsWhatTheUniformNumbersSay) {
  const int64_t rows = 50, columns = 67;
  const double rate = 0.3;
  const std::vector<int64_t> numbers = counting(rows, 4'000'000'000);  // nearly 2^32
  const Tensor token = device_tensor(device(), {rows}, numbers);
  const Tensor x = device_tensor(device(), {rows, columns},
                                 std::vector<float>(static_cast<size_t>(rows * columns), 2.0f));
  Tensor y(DType::kFloat32, {rows, columns}, device().memory());
  dropout(context(), x, rate, {kKey, token}, y);
  const std::vector<float> result = host<float>(device(), y);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t d = 0; d < columns; ++d) {
      const float uniform =
          random_uniform(kKey, static_cast<uint32_t>(numbers[t]), 0, static_cast<uint32_t>(d));
      const float expected = uniform < 0.3f ? 0.0f : static_cast<float>(2.0 / 0.7);
      ASSERT_FLOAT_EQ(result[t * columns + d], expected) << t << ", " << d;
    }
  }
}

// Two choices of one token have numbers of their own.
TEST_P(RandomOpsTest, UniformSaysTheNumbersOfEachChoice) {
  const int64_t rows = 4, columns = 67;
  const std::vector<int64_t> names = {random_row(4'000'000'000, 0), random_row(4'000'000'000, 1),
                                      random_row(5, 255), random_row(6, 0)};
  const Tensor token = device_tensor(device(), {rows}, names);
  Tensor y(DType::kFloat32, {rows, columns}, device().memory());
  uniform(context(), {kKey, token}, y);
  const std::vector<float> result = host<float>(device(), y);
  const std::pair<uint32_t, uint32_t> expected[] = {
      {4'000'000'000u, 0}, {4'000'000'000u, 1}, {5, 255}, {6, 0}};
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t d = 0; d < columns; ++d) {
      ASSERT_EQ(result[t * columns + d], random_uniform(kKey, expected[t].first, expected[t].second,
                                                        static_cast<uint32_t>(d)))
          << t << ", " << d;
    }
  }
  EXPECT_NE(result[0], result[columns]);
}

TEST_P(RandomOpsTest, DropoutDropsElementsAtItsRateIndependently) {
  const int64_t rows = 400, columns = 250, count = rows * columns;
  const Tensor token = device_tensor(device(), {rows}, counting(rows, 0));
  const Tensor x =
      device_tensor(device(), {rows, columns}, std::vector<float>(static_cast<size_t>(count), 1));
  for (const double rate : {0.0, 0.1, 0.5, 0.9}) {
    Tensor y(DType::kFloat32, {rows, columns}, device().memory());
    dropout(context(), x, rate, {kKey, token}, y);
    const std::vector<float> result = host<float>(device(), y);
    std::vector<double> of_row(rows), of_column(columns);
    double dropped = 0, sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double zero = result[i] == 0 ? 1 : 0;
      dropped += zero;
      of_row[i / columns] += zero;
      of_column[i % columns] += zero;
      sum += static_cast<double>(result[i]);
    }
    const double deviation = std::sqrt(rate * (1 - rate));
    EXPECT_NEAR(dropped / count, rate, 4 * deviation / std::sqrt(count));
    EXPECT_NEAR(sum / count, 1, 4 * deviation / (1 - rate) / std::sqrt(count) + 1e-6);
    // No row and no column is dropped as a whole: each has its share.
    for (const double zeros : of_row) {
      EXPECT_NEAR(zeros / columns, rate, 6 * deviation / std::sqrt(columns));
    }
    for (const double zeros : of_column) {
      EXPECT_NEAR(zeros / rows, rate, 6 * deviation / std::sqrt(rows));
    }
  }
}

// Parity with the papers: uniform in [1 - epsilon, 1 + epsilon), mean 1, one number per element.
TEST_P(RandomOpsTest, JitterIsUniformAndElementwise) {
  const int64_t rows = 300, columns = 200, count = rows * columns;
  const double epsilon = 0.01;
  const Tensor token = device_tensor(device(), {rows}, counting(rows, 0));
  const Tensor x =
      device_tensor(device(), {rows, columns}, std::vector<float>(static_cast<size_t>(count), 1));
  Tensor y(DType::kFloat32, {rows, columns}, device().memory());
  jitter(context(), x, epsilon, {kKey, token}, y);
  const std::vector<float> result = host<float>(device(), y);
  const auto [low, high] = std::minmax_element(result.begin(), result.end());
  EXPECT_GE(*low, 0.99f);
  EXPECT_LE(*high, 1.01f);
  EXPECT_LT(*low, 0.9901f);
  EXPECT_GT(*high, 1.0099f);
  double mean = 0, squares = 0;
  for (const float value : result) mean += static_cast<double>(value) / count;
  for (const float value : result) squares += std::pow(static_cast<double>(value) - mean, 2);
  const double deviation = epsilon / std::sqrt(3.0);
  EXPECT_NEAR(mean, 1, 4 * deviation / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), deviation, 0.02 * deviation);
  // Elements of a row differ, and so do elements of a column.
  EXPECT_NE(result[0], result[1]);
  EXPECT_NE(result[0], result[columns]);
}

// What a rank computes for its tokens is what any other rank would.
TEST_P(RandomOpsTest, PermutedTokensGivePermutedRows) {
  const int64_t rows = 23, columns = 37;
  const Numbers numbers = normal_numbers("x", {rows, columns});
  const std::vector<float> x(numbers.begin(), numbers.end());
  std::vector<float> permuted(x.size());
  std::vector<int64_t> tokens = counting(rows, 77), permuted_tokens(tokens.size());
  const auto place = [&](int64_t t) { return t * 7 % rows; };  // 7 and 23 share no divisor
  for (int64_t t = 0; t < rows; ++t) {
    permuted_tokens[place(t)] = tokens[t];
    std::copy_n(x.begin() + t * columns, columns, permuted.begin() + place(t) * columns);
  }
  for (const bool is_jitter : {false, true}) {
    const auto apply = [&](const std::vector<float>& from, const std::vector<int64_t>& token) {
      const Tensor view = device_tensor(device(), {rows, columns}, from);
      const Tensor keys = device_tensor(device(), {rows}, token);
      Tensor y(DType::kFloat32, {rows, columns}, device().memory());
      is_jitter ? jitter(context(), view, 0.3, {kKey, keys}, y)
                : dropout(context(), view, 0.3, {kKey, keys}, y);
      return host<float>(device(), y);
    };
    const std::vector<float> y = apply(x, tokens), other = apply(permuted, permuted_tokens);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t d = 0; d < columns; ++d) {
        ASSERT_EQ(y[t * columns + d], other[place(t) * columns + d]) << is_jitter << " " << t;
      }
    }
  }
}

// With no preference among the keys and one-hot values, the output shows the mask itself.
TEST_P(RandomOpsTest, AttentionDropoutIsKeyedByTokenHeadAndKeyPosition) {
  const int64_t batch = 2, length = 6, heads = 3;
  const double rate = 0.4;
  const std::vector<float> zeros(static_cast<size_t>(batch * length * heads * length), 0);
  std::vector<float> one_hot = zeros;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t j = 0; j < length; ++j) {
      for (int64_t h = 0; h < heads; ++h) one_hot[((b * length + j) * heads + h) * length + j] = 1;
    }
  }
  const Shape shape = {batch, length, heads, length};
  const std::vector<int64_t> numbers = {5, 3, 900, 12, 0, 1, 40, 41, 42, 43, 44, 45};
  const Tensor q = device_tensor(device(), shape, zeros),
               v = device_tensor(device(), shape, one_hot);
  const Tensor token = device_tensor(device(), {batch * length}, numbers);
  AttentionInput in;
  in.q = q;
  in.k = q;
  in.v = v;
  in.dropout_rate = rate;
  in.random = {kKey, token};
  Tensor out(DType::kFloat32, shape, device().memory());
  Tensor log_sum_exp(DType::kFloat32, {batch, heads, length}, device().memory());
  attention(context(), in, out, log_sum_exp);
  const std::vector<float> result = host<float>(device(), out);
  size_t at = 0;
  for (int64_t t = 0; t < batch * length; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t j = 0; j < length; ++j, ++at) {
        const float uniform = random_uniform(kKey, static_cast<uint32_t>(numbers[t]),
                                             static_cast<uint32_t>(h), static_cast<uint32_t>(j));
        const float expected = uniform < 0.4f ? 0.0f : static_cast<float>(1 / 0.6 / length);
        ASSERT_NEAR(result[at], expected, 1e-6f) << t << ", " << h << ", " << j;
      }
    }
  }
}

SWITCHYARD_EACH_BACKEND(RandomOpsTest);

}  // namespace
}  // namespace switchyard::test
