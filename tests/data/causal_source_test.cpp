#include "data/causal_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/errors.h"
#include "data/dataset_source.h"
#include "data/mixture_source.h"
#include "data/pair_examples.h"
#include "data/small_dataset.h"
#include "data/unigram_entropy.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using Ids = std::vector<int32_t>;

// A row as a batch has it, labels by segment.
struct Row {
  Ids inputs, inputs_segment, targets, targets_segment, labels;

  auto operator<=>(const Row&) const = default;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << testing::PrintToString(row.inputs) << " " << testing::PrintToString(row.inputs_segment)
       << " " << testing::PrintToString(row.targets) << " "
       << testing::PrintToString(row.targets_segment) << " " << testing::PrintToString(row.labels);
}

std::vector<Row> rows_of(const TokenBatch& batch) {
  std::vector<Row> rows;
  for (int64_t r = 0; r < batch.rows; ++r) {
    const auto part = [&](const Ids& all) {
      const int64_t width = batch.inputs_width;
      return Ids(all.begin() + r * width, all.begin() + (r + 1) * width);
    };
    const auto at = static_cast<size_t>(r);
    rows.push_back({part(batch.inputs), part(batch.inputs_segment), part(batch.targets),
                    part(batch.targets_segment),
                    Ids(batch.labels.begin() + batch.first_sample[at],
                        batch.labels.begin() + batch.first_sample[at + 1])});
  }
  return rows;
}

// Rows [first, first + count) of a source, in any order.
std::vector<Row> sorted_rows(const TokenSource& source, int64_t first, int64_t count) {
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < count; ++i) indices.push_back(first + i);
  TokenBatch batch;
  source.fill(indices, batch);
  std::vector<Row> rows = rows_of(batch);
  std::ranges::sort(rows);
  return rows;
}

// The rows of a split, from a list of all its tokens.
std::vector<Row> rows_by_hand(const std::vector<SmallDocument>& documents, int length,
                              bool closed) {
  struct Token {
    int32_t id, document, label;
  };
  std::vector<Token> all;
  for (int32_t d = 0; d < static_cast<int32_t>(documents.size()); ++d) {
    const SmallDocument& document = documents[static_cast<size_t>(d)];
    for (const int32_t id : document.ids) all.push_back({id, d, document.label});
    if (closed) all.push_back({kEosId, d, document.label});
  }
  std::vector<Row> rows;
  const auto width = static_cast<size_t>(length);
  for (size_t first = 0; first < all.size(); first += width) {
    const Ids nothing(width, kPadId);
    Row row{nothing, nothing, nothing, nothing, {}};
    for (size_t i = 0; i < width && first + i < all.size(); ++i) {
      const Token& token = all[first + i];
      if (i == 0 || all[first + i - 1].document != token.document) {
        row.labels.push_back(token.label);
      }
      row.inputs[i] = token.id;
      row.inputs_segment[i] = static_cast<int32_t>(row.labels.size());
      if (first + i + 1 == all.size() || all[first + i + 1].document != token.document) continue;
      row.targets[i] = all[first + i + 1].id;
      row.targets_segment[i] = row.inputs_segment[i];
    }
    rows.push_back(std::move(row));
  }
  std::ranges::sort(rows);
  return rows;
}

class CausalTest : public testing::Test {
 protected:
  void write(const std::optional<Vocabulary>& ids = std::nullopt) {
    write_small_dataset(directory_.path(), {"a", "b"}, documents_, documents_, ExampleKind::kText,
                        ids);
    dataset_.emplace(directory_.path());
  }
  CausalSource source(int length, uint64_t seed = 3) const {
    return {*dataset_, Split::kTrain, {.length = length, .seed = seed}};
  }

  // 19 tokens with their ends.
  std::vector<SmallDocument> documents_{
      {0, {10, 11, 12}}, {0, {13}}, {1, {20, 21, 22, 23, 24, 25, 26, 27, 28}}, {1, {40, 41}}};
  TemporaryDirectory directory_;
  std::optional<Dataset> dataset_;
};

TEST_F(CausalTest, CutsDocumentsToRowsAndPredictsInsideThem) {
  write();
  const CausalSource five = source(5);
  EXPECT_TRUE(five.causal());
  EXPECT_EQ(five.epoch_size(), 4);
  const std::vector<Row> rows = sorted_rows(five, 0, 4);
  EXPECT_EQ(
      rows[0],
      (Row{{1, 20, 21, 22, 23}, {1, 2, 2, 2, 2}, {0, 21, 22, 23, 24}, {0, 2, 2, 2, 2}, {0, 1}}));
  EXPECT_EQ(
      rows[2],
      (Row{{10, 11, 12, 1, 13}, {1, 1, 1, 1, 2}, {11, 12, 1, 0, 1}, {1, 1, 1, 0, 2}, {0, 0}}));
  EXPECT_EQ(
      rows[3],
      (Row{{24, 25, 26, 27, 28}, {1, 1, 1, 1, 1}, {25, 26, 27, 28, 1}, {1, 1, 1, 1, 1}, {1}}));
  EXPECT_EQ(rows[1],
            (Row{{1, 40, 41, 1, 0}, {1, 2, 2, 2, 0}, {0, 41, 1, 0, 0}, {0, 2, 2, 0, 0}, {1, 1}}));
}

TEST_F(CausalTest, LosesNothingAtAnyLengthInAnyEpoch) {
  write();
  for (int length = 2; length <= 21; ++length) {
    SCOPED_TRACE(length);
    const std::vector<Row> expected = rows_by_hand(documents_, length, true);
    const CausalSource rows = source(length);
    const int64_t size = rows.epoch_size();
    ASSERT_EQ(size, std::ssize(expected));
    for (const int64_t epoch : {0, 1, 7})
      EXPECT_EQ(sorted_rows(rows, epoch * size, size), expected);
  }
}

// Ids without an end of text: documents follow each other unmarked, but for their segments.
TEST_F(CausalTest, WithoutAnEndOfText) {
  write(Vocabulary{.size = 50, .pad = 0});
  for (const int length : {2, 4, 5, 15, 20}) {
    const std::vector<Row> expected = rows_by_hand(documents_, length, false);
    const CausalSource rows = source(length);
    ASSERT_EQ(rows.epoch_size(), std::ssize(expected));
    EXPECT_EQ(sorted_rows(rows, 0, rows.epoch_size()), expected) << length;
  }
}

TEST_F(CausalTest, ARowIsAFunctionOfSeedAndIndex) {
  write();
  const CausalSource rows = source(2);
  const auto order = [](const CausalSource& from, int64_t first) {
    TokenBatch batch;
    std::vector<int64_t> indices(10);
    std::iota(indices.begin(), indices.end(), first);
    from.fill(indices, batch);
    return batch.inputs;
  };
  ASSERT_EQ(rows.epoch_size(), 10);
  const Ids all = order(rows, 0);
  EXPECT_EQ(order(source(2), 0), all);
  EXPECT_NE(order(source(2, 4), 0), all) << "another seed";
  EXPECT_NE(order(rows, 10), all) << "another epoch";
  TokenBatch one;
  const int64_t index = 6;
  rows.fill({&index, 1}, one);
  EXPECT_EQ(one.inputs, Ids(all.begin() + 12, all.begin() + 14));
}

TEST_F(CausalTest, EvaluationRowsAreTheSameForEverySeed) {
  write();
  const auto evaluation = [&](uint64_t seed, int64_t rows) {
    return CausalSource::evaluation(*dataset_, Split::kValidation, {.length = 4, .seed = seed},
                                    rows);
  };
  const auto all = evaluation(1, 100), three = evaluation(2, 3);
  EXPECT_EQ(all->epoch_size(), 5);
  EXPECT_EQ(three->epoch_size(), 3);
  EXPECT_EQ(sorted_rows(*all, 0, 3), sorted_rows(*three, 0, 3));
  EXPECT_EQ(unigram_entropy(*all).target_tokens, 19 - 4) << "all but the first of each document";
}

TEST_F(CausalTest, AnEmptySplitIsRefused) {
  write_small_dataset(directory_.path(), {"a"}, {{0, {10, 11}}}, {});
  dataset_.emplace(directory_.path());
  EXPECT_THROW(CausalSource(*dataset_, Split::kValidation, {.length = 4}), InputError);
}

// A prompt and its answer are one text, of which only the answer is predicted.
TEST_F(CausalTest, PairsAreJoinedForADecoderAlone) {
  write_small_dataset(directory_.path(), {"x", "y"},
                      {{0, {10, 11, 12}}, {0, {20}}, {1, {30, 31}}, {1, {40, 41, 42}}},
                      {{1, {50}}, {1, {51}}}, ExampleKind::kPairs);
  dataset_.emplace(directory_.path());
  const DatasetSource joined(*dataset_,
                             std::make_unique<PairExamples>(*dataset_, Split::kTrain, 4, 4),
                             {.inputs_width = 4, .targets_width = 4, .joined = true});
  EXPECT_TRUE(joined.causal());
  EXPECT_EQ(joined.inputs_width(), 8);
  EXPECT_EQ(joined.targets_width(), 8);
  const std::vector<Row> rows = sorted_rows(joined, 0, 2);
  EXPECT_EQ(rows[0], (Row{{10, 11, 12, 1, 20, 1, 0, 0},
                          {1, 1, 1, 1, 1, 1, 0, 0},
                          {0, 0, 0, 20, 1, 0, 0, 0},
                          {0, 0, 0, 1, 1, 0, 0, 0},
                          {0}}));
  EXPECT_EQ(rows[1], (Row{{30, 31, 1, 40, 41, 42, 1, 0},
                          {1, 1, 1, 1, 1, 1, 1, 0},
                          {0, 0, 40, 41, 42, 1, 0, 0},
                          {0, 0, 1, 1, 1, 1, 0, 0},
                          {1}}));
}

TEST_F(CausalTest, MixturesOfItAreCausal) {
  write();
  std::vector<MixtureSource::Part> parts;
  for (const uint64_t seed : {1, 2}) {
    parts.push_back(
        {std::make_unique<CausalSource>(*dataset_, Split::kTrain,
                                        CausalSource::Options{.length = 5, .seed = seed}),
         1.0});
  }
  const MixtureSource mixture(std::move(parts), 0);
  EXPECT_TRUE(mixture.causal());
  TokenBatch batch;
  mixture.fill(std::vector<int64_t>{0, 1, 2}, batch);
  EXPECT_TRUE(batch.packed);
  EXPECT_EQ(batch.rows, 3);
}

}  // namespace
}  // namespace switchyard
