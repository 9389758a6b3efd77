// Ordered sums of a gradient: the same bits however leaves are spread over calls, and what cannot
// be added is counted.
#include <cmath>
#include <limits>

#include "backends/each_backend.h"
#include "support/op_case.h"

namespace switchyard::test {
namespace {

constexpr int64_t kIn = 37, kOut = 21, kVocabulary = 11;
const std::vector<int64_t> kLeaves = {0, 70, 70, 71, 200};

std::vector<float> normal_floats(const std::string& name, const Shape& shape) {
  const Numbers numbers = normal_numbers(name, shape);
  return {numbers.begin(), numbers.end()};
}

class OrderedGradient : public EachBackend {
 protected:
  void SetUp() override {
    EachBackend::SetUp();
    if (!IsSkipped()) device().order_sums(4, 200);
  }
  std::unique_ptr<Weight> weight(const Shape& shape) {
    auto weight = device_weight(device(), shape, normal_floats("w", shape));
    weight->keep_ordered_sums();
    return weight;
  }
  // The sums after one call for each entry of `calls`, of leaves [first, second).
  using Calls = std::vector<std::pair<size_t, size_t>>;
  template <typename Write>
  std::vector<int64_t> sums_after(const Calls& calls, const Shape& shape, const Write& write) {
    const auto w = weight(shape);
    for (const auto& [first, last] : calls) {
      std::vector<int64_t> leaves(kLeaves.begin() + static_cast<int64_t>(first),
                                  kLeaves.begin() + static_cast<int64_t>(last) + 1);
      const int64_t begin = leaves.front(), end = leaves.back();
      for (int64_t& leaf : leaves) leaf -= begin;
      write(begin, end, leaves, *w);
    }
    return host<int64_t>(device(), w->ordered_sums());
  }
  template <typename Write>
  void expect_any_calls_alike(const Shape& shape, const Write& write) {
    const auto whole = sums_after({{0, 4}}, shape, write);
    EXPECT_EQ(whole, sums_after({{3, 4}, {0, 2}, {2, 3}}, shape, write));
    EXPECT_NE(whole, sums_after({{0, 3}}, shape, write));
    EXPECT_EQ(device().refused(), 0);
  }
};

TEST_P(OrderedGradient, OfAProductDoesNotDependOnTheCalls) {
  const Tensor x = device_tensor(device(), {200, kIn}, normal_floats("x", {200, kIn}));
  const Tensor dy = device_tensor(device(), {200, kOut}, normal_floats("dy", {200, kOut}));
  expect_any_calls_alike({kOut, kIn},
                         [&](int64_t begin, int64_t end, LeafOffsets leaves, Weight& w) {
                           linear_weight_gradient(context(), x.view().rows(begin, end),
                                                  dy.view().rows(begin, end), leaves, w);
                         });
}

TEST_P(OrderedGradient, OfTheLossDoesNotDependOnTheCalls) {
  std::vector<int32_t> targets;
  for (const double id : random_integers("targets", {200}, 0, kVocabulary)) {
    targets.push_back(static_cast<int32_t>(id));
  }
  const Tensor target = device_tensor(device(), {200}, targets);
  const Tensor h = device_tensor(device(), {200, kIn}, normal_floats("h", {200, kIn}));
  const Tensor losses(DType::kFloat64, {200}, device().memory());
  const Tensor dh(DType::kFloat32, {200, kIn}, device().memory());
  expect_any_calls_alike(
      {kVocabulary, kIn}, [&](int64_t begin, int64_t end, LeafOffsets leaves, Weight& w) {
        linear_cross_entropy(context(), {}, h.view().rows(begin, end), w,
                             target.view().rows(begin, end), leaves, losses.view().rows(begin, end),
                             {}, dh.view().rows(begin, end));
      });
}

TEST_P(OrderedGradient, OfAnEmbeddingDoesNotDependOnTheCalls) {
  std::vector<int32_t> ids;
  for (const double id : random_integers("ids", {200}, 0, kVocabulary)) {
    ids.push_back(static_cast<int32_t>(id));
  }
  const Tensor id = device_tensor(device(), {200}, ids);
  const Tensor dy = device_tensor(device(), {200, kIn}, normal_floats("dy", {200, kIn}));
  expect_any_calls_alike({kVocabulary, kIn},
                         [&](int64_t begin, int64_t end, LeafOffsets leaves, Weight& w) {
                           embedding_gradient(context(), id.view().rows(begin, end),
                                              dy.view().rows(begin, end), leaves, w);
                         });
}

TEST_P(OrderedGradient, OfExpertsDoesNotDependOnWhereRunsAreCutIntoBlocks) {
  const Tensor x = device_tensor(device(), {200, kIn}, normal_floats("x", {200, kIn}));
  const Tensor dy = device_tensor(device(), {200, kOut}, normal_floats("dy", {200, kOut}));
  // Expert 0 has rows 0 to 69 of one leaf, expert 1 one row of one leaf and 129 of another.
  const auto add = [&](Weight& w, std::vector<int64_t> offsets, std::vector<int64_t> runs,
                       int64_t first, int64_t last) {
    RaggedRows rows;
    rows.offsets = offsets;
    rows.leaf_offsets = runs;
    grouped_weight_gradient(context(), x.view().rows(first, last), RowOrder::kCompact,
                            dy.view().rows(first, last), RowOrder::kCompact, rows, w);
  };
  const auto whole = weight({2, kOut, kIn}), cut = weight({2, kOut, kIn});
  add(*whole, {0, 70, 200}, {0, 70, 71, 200}, 0, 200);
  add(*cut, {0, 0, 65}, {0, 65}, 135, 200);       // the last run from its 64th row on
  add(*cut, {0, 64, 64}, {0, 64}, 0, 64);         // a block
  add(*cut, {0, 6, 71}, {0, 6, 7, 71}, 64, 135);  // the rest
  EXPECT_EQ(host<int64_t>(device(), whole->ordered_sums()),
            host<int64_t>(device(), cut->ordered_sums()));
  EXPECT_EQ(device().refused(), 0);
}

TEST_P(OrderedGradient, LeavesOutWhatIsNotFiniteOrTooLarge) {
  // 4 leaves in 2 places: a partial must stay below 2048 / 8.
  const auto w = weight({3, 1});
  w->set_writes_per_leaf(2);
  const Tensor x = device_tensor<float>(device(), {1, 1}, {1.0f});
  const std::vector<int64_t> leaf = {0, 1};
  const auto refused = [&](std::vector<float> partials) {
    const Tensor dy = device_tensor(device(), {1, 3}, partials);
    const int64_t before = device().refused();
    linear_weight_gradient(context(), x, dy, leaf, *w);
    return device().refused() - before;
  };
  EXPECT_EQ(refused({255.9f, -255.9f, 1.0f}), 0);
  EXPECT_EQ(refused({256.0f, -256.0f, 1.0f}), 2);
  EXPECT_EQ(refused({std::numeric_limits<float>::quiet_NaN(),
                     -std::numeric_limits<float>::infinity(), 0x1p-52f}),
            2);
  EXPECT_EQ(refused({0x1p-53f, 0x1p-54f, -0x1.8p-52f}), 0);  // rounded, ties to even
  gradient_of_sums(context(), *w);
  EXPECT_EQ(host<float>(device(), w->gradient()), (std::vector<float>{255.9f, -255.9f, 2.0f}));
  const auto smallest = weight({3, 1});
  const Tensor dy = device_tensor<float>(device(), {1, 3}, {0x1p-53f, 0x1.8p-53f, -0x1.8p-52f});
  linear_weight_gradient(context(), x, dy, leaf, *smallest);
  EXPECT_EQ(host<int64_t>(device(), smallest->ordered_sums()), (std::vector<int64_t>{0, 1, -2}));
}

// Gradients take their sums' place in memory, by several threads.
TEST_P(OrderedGradient, OfManyElementsTakesThePlaceOfItsSums) {
  constexpr int64_t kRows = 301, kColumns = 211;
  const auto w = weight({kRows, kColumns});
  const Tensor x = device_tensor(device(), {1, kColumns}, normal_floats("x", {1, kColumns}));
  const Tensor dy = device_tensor(device(), {1, kRows}, normal_floats("dy", {1, kRows}));
  const std::vector<int64_t> leaf = {0, 1};
  linear_weight_gradient(context(), x, dy, leaf, *w);
  std::vector<float> expected;
  for (const int64_t sum : host<int64_t>(device(), w->ordered_sums())) {
    expected.push_back(static_cast<float>(static_cast<double>(sum) * 0x1p-52));
  }
  gradient_of_sums(context(), *w);
  EXPECT_EQ(host<float>(device(), w->gradient()), expected);
}

SWITCHYARD_EACH_BACKEND(OrderedGradient);

}  // namespace
}  // namespace switchyard::test
