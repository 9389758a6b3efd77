#include "data/packing.h"

#include <gtest/gtest.h>

#include <set>

namespace switchyard {
namespace {

// Examples that only have lengths.
class Lengths : public ExampleSource {
 public:
  explicit Lengths(std::vector<SampleLengths> lengths) : lengths_(std::move(lengths)) {}
  int64_t size() const override { return static_cast<int64_t>(lengths_.size()); }
  SampleLengths lengths(int64_t example) const override {
    return lengths_[static_cast<size_t>(example)];
  }
  Sample sample(int64_t, const SampleKey&) const override { return {}; }

 private:
  std::vector<SampleLengths> lengths_;
};

Lengths many(int count) {
  std::vector<SampleLengths> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back({1 + i * 37 % 20, 1 + i * 11 % 8});
  return Lengths(std::move(lengths));
}

// Parity 3.4: an example goes to the current row if both sides fit, else a row is begun.
TEST(Packing, IsGreedyInOrder) {
  const Lengths examples = many(500);
  const Packing packing(examples, 32, 12, 7);
  std::set<int64_t> seen;
  int64_t position = 0;
  int inputs_left = -1, targets_left = -1;  // in the row before
  for (int64_t row = 0; row < packing.rows(); ++row) {
    EXPECT_EQ(packing.begin(row), position);
    ASSERT_LT(packing.begin(row), packing.end(row)) << "an empty row";
    const SampleLengths first = examples.lengths(packing.example(position));
    if (row > 0) {
      EXPECT_TRUE(first.inputs > inputs_left || first.targets > targets_left)
          << "row " << row << "'s first example fits into the row before";
    }
    inputs_left = 32;
    targets_left = 12;
    for (; position < packing.end(row); ++position) {
      const int64_t example = packing.example(position);
      EXPECT_TRUE(seen.insert(example).second) << example << " comes twice";
      inputs_left -= examples.lengths(example).inputs;
      targets_left -= examples.lengths(example).targets;
    }
    EXPECT_GE(inputs_left, 0) << "row " << row;
    EXPECT_GE(targets_left, 0) << "row " << row;
  }
  EXPECT_EQ(seen.size(), 500u);
  EXPECT_LT(packing.rows(), 300);
}

TEST(Packing, IsAFunctionOfTheSeed) {
  const Lengths examples = many(100);
  const Packing a(examples, 32, 12, 7), b(examples, 32, 12, 7), other(examples, 32, 12, 8);
  ASSERT_EQ(a.rows(), b.rows());
  int same = 0;
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(a.example(i), b.example(i));
    same += a.example(i) == other.example(i);
  }
  EXPECT_LT(same, 20);
}

TEST(Packing, AnExampleMayFillItsRow) {
  const Packing packing(Lengths({{8, 4}, {8, 1}, {1, 4}}), 8, 4, 0);
  EXPECT_EQ(packing.rows(), 3);
}

}  // namespace
}  // namespace switchyard
