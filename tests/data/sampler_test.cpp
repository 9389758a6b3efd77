#include "data/sampler.h"

#include <gtest/gtest.h>

#include <set>

#include "support/temporary_directory.h"

namespace switchyard {
namespace {

struct Document {
  int label, tokens;
};

class SegmentTableTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  int files_ = 0;

  TokenFile file(const std::vector<Document>& documents) {
    const auto path = directory_.path() / std::to_string(files_++);
    TokenFileWriter writer(path, 100, 4);
    for (const Document& document : documents) {
      writer.add(std::vector<int32_t>(document.tokens, 7), document.label);
    }
    writer.finish();
    return TokenFile(path);
  }
};

TEST_F(SegmentTableTest, RunsOfOneLabelAreJoinedAndCut) {
  // Label 0: 4 + 3 + 5 = 12 ids -> 5, 5, 2; label 1: 3 -> 3; label 0 again: 6 -> 5 and one too
  // short.
  const auto tokens = file({{0, 4}, {0, 3}, {0, 5}, {1, 3}, {0, 6}});
  const SegmentTable table(tokens, 5, 2);
  ASSERT_EQ(table.size(), 5);
  const std::vector<Segment> expected{{0, 5, 0}, {5, 5, 0}, {10, 2, 0}, {12, 3, 1}, {15, 5, 0}};
  for (int64_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(table[i].begin, expected[i].begin) << i;
    EXPECT_EQ(table[i].tokens, expected[i].tokens) << i;
    EXPECT_EQ(table[i].label, expected[i].label) << i;
  }
}

TEST_F(SegmentTableTest, NoSegmentHoldsTwoLabelsAndNoneOverlap) {
  std::vector<Document> documents;
  for (int i = 0; i < 200; ++i) documents.push_back({i / 13 % 4, i * 37 % 29});
  const auto tokens = file(documents);
  const SegmentTable table(tokens, 11, 1);
  int64_t covered = 0;
  for (int64_t i = 0; i < table.size(); ++i) {
    const Segment segment = table[i];
    EXPECT_EQ(segment.begin, covered) << "with min_tokens 1 nothing is left out";
    covered += segment.tokens;
    for (int64_t d = 0; d < tokens.document_count(); ++d) {
      const bool overlaps = tokens.document_begin(d) < segment.begin + segment.tokens &&
                            tokens.document_begin(d + 1) > segment.begin;
      if (overlaps) {
        EXPECT_EQ(tokens.document_label(d), segment.label);
      }
    }
  }
  EXPECT_EQ(covered, tokens.token_count());
}

TEST_F(SegmentTableTest, NothingLongEnoughGivesNoSegment) {
  EXPECT_EQ(SegmentTable(file({}), 5, 2).size(), 0);
  EXPECT_EQ(SegmentTable(file({{0, 1}, {1, 1}, {2, 0}}), 5, 2).size(), 0);
}

TEST(Sampler, EveryEpochHoldsEverySegmentOnceInAnotherOrder) {
  const Sampler sampler(97, 5);
  std::vector<std::vector<int64_t>> orders;
  for (uint32_t epoch = 0; epoch < 3; ++epoch) {
    std::set<int64_t> seen;
    orders.emplace_back();
    for (int64_t i = 0; i < 97; ++i) {
      const auto place = sampler(epoch * 97 + i);
      EXPECT_EQ(place.epoch, epoch);
      seen.insert(place.segment);
      orders.back().push_back(place.segment);
    }
    EXPECT_EQ(seen.size(), 97u);
    EXPECT_EQ(*seen.begin(), 0);
    EXPECT_EQ(*seen.rbegin(), 96);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST(Sampler, IsPureAndDependsOnTheSeed) {
  const Sampler a(1000, 1), b(1000, 2);
  std::vector<int64_t> forward, backward(500), other;
  for (int64_t i = 0; i < 500; ++i) forward.push_back(a(i).segment);
  for (int64_t i = 499; i >= 0; --i) backward[i] = Sampler(1000, 1)(i).segment;
  for (int64_t i = 0; i < 500; ++i) other.push_back(b(i).segment);
  EXPECT_EQ(forward, backward);
  EXPECT_NE(forward, other);
}

}  // namespace
}  // namespace switchyard
