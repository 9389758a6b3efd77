#include "data/mixture_source.h"

#include <gtest/gtest.h>

#include <map>

#include "base/errors.h"

namespace switchyard {
namespace {

// Row i of source `number` holds the input i and the target `number`.
class NumberedSource : public TokenSource {
 public:
  NumberedSource(int number, int64_t rows, std::vector<std::string> labels)
      : number_(number), rows_(rows), labels_(std::move(labels)) {}
  int inputs_width() const override { return 2; }
  int targets_width() const override { return 2; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return labels_; }
  int64_t epoch_size() const override { return rows_; }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    batch.reset(2, 2);
    for (const int64_t index : indices) {
      batch.add_row(0);
      batch.add_sample(std::vector{static_cast<int32_t>(index)}, std::vector{number_},
                       static_cast<int>(index % std::ssize(labels_)));
    }
  }

 private:
  int number_;
  int64_t rows_;
  std::vector<std::string> labels_;
  Vocabulary vocabulary_{.size = 1 << 20, .pad = 0};
};

std::vector<MixtureSource::Part> three_parts() {
  std::vector<MixtureSource::Part> parts;
  parts.push_back(
      {std::make_unique<NumberedSource>(10, 50, std::vector<std::string>{"a", "b"}), 7});
  parts.push_back({std::make_unique<NumberedSource>(11, 1000, std::vector<std::string>{"b"}), 2});
  parts.push_back({std::make_unique<NumberedSource>(12, 9, std::vector<std::string>{"c", "a"}), 1});
  return parts;
}

TEST(SharesOf, LargestRemaindersFirst) {
  EXPECT_EQ(shares_of(10, {7, 2, 1}), (std::vector<int64_t>{7, 2, 1}));
  EXPECT_EQ(shares_of(4096, {7, 2, 1}), (std::vector<int64_t>{2867, 819, 410}));
  EXPECT_EQ(shares_of(10, {1, 1, 1}), (std::vector<int64_t>{4, 3, 3}));
  EXPECT_EQ(shares_of(2, {1, 1, 1}), (std::vector<int64_t>{1, 1, 0}));
}

TEST(MixtureSource, EveryBlockHasTheSharesAndEveryPartItsRowsInTurn) {
  const MixtureSource source(three_parts(), 3);
  const std::vector<int64_t> shares{2867, 819, 410};
  std::vector<std::map<int64_t, int>> seen(3);
  for (int64_t i = 0; i < 3 * MixtureSource::kBlockRows; ++i) {
    const auto [part, index] = source.place(i);
    ++seen[part][index];
    EXPECT_EQ(index / shares[part], i / 4096) << "in blocks";
  }
  for (size_t part = 0; part < 3; ++part) {
    ASSERT_EQ(std::ssize(seen[part]), 3 * shares[part]);
    EXPECT_EQ(seen[part].begin()->first, 0);
    EXPECT_EQ(seen[part].rbegin()->first, 3 * shares[part] - 1) << "none left out";
    for (const auto& [index, times] : seen[part]) EXPECT_EQ(times, 1) << index;
  }
}

// Shares hold in short stretches too: 5 standard deviations of a draw without replacement.
TEST(MixtureSource, IsMixedWithinABlock) {
  const MixtureSource source(three_parts(), 3);
  for (int64_t begin = 0; begin < 4096; begin += 512) {
    int first = 0;
    for (int64_t i = begin; i < begin + 512; ++i) first += source.place(i).part == 0;
    EXPECT_NEAR(first, 512 * 0.7, 50);
  }
}

TEST(MixtureSource, RowsArePureAndFollowTheSeed) {
  const MixtureSource a(three_parts(), 3), b(three_parts(), 3), other(three_parts(), 4);
  int same = 0;
  for (int64_t i = 999; i >= 0; --i) {
    EXPECT_EQ(a.place(i).part, b.place(i).part);
    EXPECT_EQ(a.place(i).index, b.place(i).index);
    same += a.place(i).part == other.place(i).part;
  }
  EXPECT_LT(same, 700);
}

TEST(MixtureSource, FillsRowsWithLabelsOfAll) {
  const MixtureSource source(three_parts(), 3);
  EXPECT_EQ(source.label_names(), (std::vector<std::string>{"a", "b", "c"}));
  const std::vector<std::vector<int>> labels{{0, 1}, {1}, {2, 0}};
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < 100; ++i) indices.push_back(i);
  TokenBatch batch;
  source.fill(indices, batch);
  ASSERT_EQ(batch.rows, 100);
  for (int64_t row = 0; row < 100; ++row) {
    const auto [part, index] = source.place(row);
    EXPECT_EQ(batch.inputs[2 * row], index);
    EXPECT_EQ(batch.targets[2 * row], 10 + static_cast<int>(part));
    EXPECT_EQ(batch.targets_segment[2 * row], 1);
    EXPECT_EQ(batch.targets_segment[2 * row + 1], 0);
    EXPECT_EQ(batch.label_of(row, 1),
              labels[part][static_cast<size_t>(index) % labels[part].size()]);
  }
}

TEST(MixtureSource, EvaluationSharesOutTheRowsThereAre) {
  const auto source = MixtureSource::evaluation(three_parts(), 100);
  // 70 of 50, 20, 10 of 9.
  EXPECT_EQ(source->epoch_size(), 50 + 20 + 9);
  std::map<size_t, int> rows;
  for (int64_t i = 0; i < source->epoch_size(); ++i) ++rows[source->place(i).part];
  EXPECT_EQ(rows, (std::map<size_t, int>{{0, 50}, {1, 20}, {2, 9}}));
  EXPECT_THROW(source->place(79), Error);
}

}  // namespace
}  // namespace switchyard
