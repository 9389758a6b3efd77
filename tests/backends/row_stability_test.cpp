// A row's product doesn't depend on the other rows of the call: bit for bit, alone or among others,
// wherever it stands. Expert parallelism and micro-batches rest on it. Nor does a query's attention
// depend on other queries, or on keys that it doesn't see: generation with a cache rests on it.
#include "backends/each_backend.h"
#include "support/op_case.h"
#include "tensor/bfloat16.h"

namespace switchyard::test {
namespace {

constexpr int64_t kRows = 67, kIn = 130, kOut = 49;

template <typename T>
std::vector<T> normal_elements(const std::string& name, const Shape& shape) {
  std::vector<T> elements;
  for (const double number : normal_numbers(name, shape)) elements.push_back(T(number));
  return elements;
}

// Calls of these rows, chosen so that every row is met at several places of a call.
std::vector<std::pair<int64_t, int64_t>> parts() {
  std::vector<std::pair<int64_t, int64_t>> parts;
  for (int64_t i = 0; i < kRows; ++i) parts.push_back({i, i + 1});
  for (const int64_t size : {2, 3, 7, 16, 31}) {
    for (int64_t i = 0; i < kRows; i += size) parts.push_back({i, std::min(i + size, kRows)});
  }
  return parts;
}

class RowStability : public EachBackend {
 protected:
  void SetUp() override {
    EachBackend::SetUp();
    if (!IsSkipped() && !backend().row_stable) GTEST_SKIP() << "not promised";
  }
  // Rows begin..end-1 of y equal those of the whole call.
  template <typename T>
  void expect_rows(const std::vector<T>& whole, const std::vector<T>& part, int64_t begin,
                   int64_t end, int64_t columns) {
    ASSERT_EQ(static_cast<int64_t>(part.size()), (end - begin) * columns);
    const std::vector<T> same(whole.begin() + begin * columns, whole.begin() + end * columns);
    EXPECT_TRUE(part == same) << "rows " << begin << ".." << end;
  }
  template <typename T>
  void expect_stable_linear();
  template <typename T>
  void expect_stable_linear_input_gradient();
  template <typename T>
  void expect_stable_grouped_linear_and_input_gradient();
  template <typename T>
  void expect_stable_attention(int64_t window);
};

template <typename T>
void RowStability::expect_stable_linear() {
  const Tensor x = device_tensor(device(), {kRows, kIn}, normal_elements<T>("x", {kRows, kIn}));
  const auto w = device_weight(device(), {kOut, kIn}, normal_elements<float>("w", {kOut, kIn}));
  const auto product = [&](int64_t begin, int64_t end) {
    Tensor y(DTypeOf<T>::value, {end - begin, kOut}, device().memory());
    linear(context(), x.view().rows(begin, end), *w, y, {.activation = Activation::kGelu});
    return host<T>(device(), y);
  };
  const std::vector<T> whole = product(0, kRows);
  for (const auto& [begin, end] : parts()) {
    expect_rows(whole, product(begin, end), begin, end, kOut);
  }
}

template <typename T>
void RowStability::expect_stable_linear_input_gradient() {
  const Tensor dy = device_tensor(device(), {kRows, kOut}, normal_elements<T>("dy", {kRows, kOut}));
  const auto w = device_weight(device(), {kOut, kIn}, normal_elements<float>("w", {kOut, kIn}));
  const auto product = [&](int64_t begin, int64_t end) {
    Tensor dx(DTypeOf<T>::value, {end - begin, kIn}, device().memory());
    linear_input_gradient(context(), dy.view().rows(begin, end), *w, dx, Write::kOverwrite);
    return host<T>(device(), dx);
  };
  const std::vector<T> whole = product(0, kRows);
  for (const auto& [begin, end] : parts()) {
    expect_rows(whole, product(begin, end), begin, end, kIn);
  }
}

// The same row of the same expert: in a call of its own, beside other experts' rows, gathered.
template <typename T>
void RowStability::expect_stable_grouped_linear_and_input_gradient() {
  const Tensor x = device_tensor(device(), {kRows, kIn}, normal_elements<T>("x", {kRows, kIn}));
  const Tensor dy = device_tensor(device(), {kRows, kOut}, normal_elements<T>("dy", {kRows, kOut}));
  const auto w =
      device_weight(device(), {3, kOut, kIn}, normal_elements<float>("w", {3, kOut, kIn}));
  // Rows begin..end-1 at expert 1, `before` and `after` further ones at experts 0 and 2.
  const auto products = [&](int64_t begin, int64_t end, int64_t before, int64_t after) {
    std::vector<int32_t> index;
    for (int64_t i = 0; i < before; ++i) index.push_back(static_cast<int32_t>(i % kRows));
    for (int64_t i = begin; i < end; ++i) index.push_back(static_cast<int32_t>(i));
    for (int64_t i = 0; i < after; ++i) index.push_back(static_cast<int32_t>(kRows - 1 - i));
    const int64_t rows = static_cast<int64_t>(index.size());
    const std::vector<int64_t> offsets = {0, before, before + end - begin, rows};
    const Tensor places = device_tensor(device(), {rows}, index);
    RaggedRows ragged;
    ragged.offsets = offsets;
    ragged.leaf_offsets = offsets;
    ragged.index = places;
    Tensor y(DTypeOf<T>::value, {rows, kOut}, device().memory());
    Tensor dx(DTypeOf<T>::value, {rows, kIn}, device().memory());
    grouped_linear(context(), x, RowOrder::kIndexed, *w, ragged, y, RowOrder::kCompact);
    grouped_input_gradient(context(), dy, RowOrder::kIndexed, *w, ragged, dx, RowOrder::kCompact);
    return std::pair(host<T>(device(), y.view().rows(before, before + end - begin)),
                     host<T>(device(), dx.view().rows(before, before + end - begin)));
  };
  const auto [whole_y, whole_dx] = products(0, kRows, 0, 0);
  for (const auto& [begin, end] : parts()) {
    for (const auto& [before, after] : {std::pair<int64_t, int64_t>{0, 0}, {1, 2}, {13, 5}}) {
      const auto [y, dx] = products(begin, end, before, after);
      expect_rows(whole_y, y, begin, end, kOut);
      expect_rows(whole_dx, dx, begin, end, kIn);
    }
  }
}

// Queries at once, and a few at a time behind keys of earlier calls in a cache with free places.
template <typename T>
void RowStability::expect_stable_attention(int64_t window) {
  constexpr int64_t kLength = 410, kCapacity = 500, kHeads = 4, kKeyHeads = 2, kWidth = 24;
  const auto keys = [&](const std::string& name, int64_t length) {
    std::vector<T> elements = normal_elements<T>(name, {kCapacity, kKeyHeads, kWidth});
    elements.resize(static_cast<size_t>(length * kKeyHeads * kWidth));
    return device_tensor(device(), {1, length, kKeyHeads, kWidth}, elements);
  };
  const std::vector<T> q = normal_elements<T>("q", {kLength, kHeads, kWidth});
  const auto result = [&](int64_t begin, int64_t end, const Tensor& k, const Tensor& v) {
    const int64_t row = kHeads * kWidth;
    const Tensor part =
        device_tensor(device(), {1, end - begin, kHeads, kWidth},
                      std::vector<T>(q.begin() + begin * row, q.begin() + end * row));
    Tensor out(DTypeOf<T>::value, part.shape(), device().memory());
    const Tensor lse(DType::kFloat32, {1, kHeads, end - begin}, device().memory());
    AttentionInput in{.q = part, .k = k, .v = v};
    in.mask = {.causal = true, .window = window, .query_start = begin};
    attention(context(), in, out, lse);
    return host<T>(device(), out);
  };
  const std::vector<T> whole = result(0, kLength, keys("k", kLength), keys("v", kLength));
  const Tensor cached_k = keys("k", kCapacity), cached_v = keys("v", kCapacity);
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 1},
                                   {0, 7},
                                   {7, 30},
                                   {150, 151},
                                   {287, 288},
                                   {288, 289},
                                   {300, 330},
                                   {384, 400},
                                   {409, 410}}) {
    expect_rows(whole, result(begin, end, cached_k, cached_v), begin, end, kHeads * kWidth);
  }
}

TEST_P(RowStability, Attention) {
  for (const int64_t window : {0, 60}) {
    expect_stable_attention<float>(window);
    expect_stable_attention<BFloat16>(window);
  }
}

TEST_P(RowStability, Linear) {
  expect_stable_linear<float>();
  expect_stable_linear<BFloat16>();
}

TEST_P(RowStability, LinearInputGradient) {
  expect_stable_linear_input_gradient<float>();
  expect_stable_linear_input_gradient<BFloat16>();
}

TEST_P(RowStability, GroupedLinearAndInputGradient) {
  expect_stable_grouped_linear_and_input_gradient<float>();
  expect_stable_grouped_linear_and_input_gradient<BFloat16>();
}

SWITCHYARD_EACH_BACKEND(RowStability);

}  // namespace
}  // namespace switchyard::test
