#include "data/dataset_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/errors.h"
#include "data/pair_examples.h"
#include "data/small_dataset.h"
#include "data/span_corruption_examples.h"
#include "data/unigram_entropy.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

// Documents whose ids tell label and place: label l holds ids 10 l + 10 .. 10 l + 19.
std::vector<SmallDocument> documents(int labels, int tokens) {
  std::vector<SmallDocument> all;
  for (int label = 0; label < labels; ++label) {
    SmallDocument document{label, {}};
    for (int i = 0; i < tokens; ++i) document.ids.push_back(10 * label + 10 + i * 7 % 10);
    all.push_back(std::move(document));
  }
  return all;
}

struct TextOptions {
  int inputs_length = 64;
  uint64_t seed = 0;
  int min_tokens = 16;
};

std::unique_ptr<SpanCorruptionExamples> examples(const Dataset& dataset, Split split,
                                                 const TextOptions& options) {
  return std::make_unique<SpanCorruptionExamples>(
      dataset, split,
      SpanCorruptionExamples::Options{.inputs_length = options.inputs_length,
                                      .min_tokens = options.min_tokens});
}

DatasetSource::Options widths(const TextOptions& options) {
  const SpanLengths widest = widest_corrupted_lengths(span_lengths(options.inputs_length).tokens);
  return {.inputs_width = widest.inputs, .targets_width = widest.targets, .seed = options.seed};
}

DatasetSource training(const Dataset& dataset, const TextOptions& options) {
  return {dataset, examples(dataset, Split::kTrain, options), widths(options)};
}

std::unique_ptr<DatasetSource> evaluation(const Dataset& dataset, const TextOptions& options,
                                          int64_t samples) {
  return DatasetSource::evaluation(dataset, examples(dataset, Split::kValidation, options),
                                   widths(options), samples);
}

Sample sample_of(const DatasetSource& source, int64_t index) {
  const std::vector<Sample> row = source.row(index);
  EXPECT_EQ(row.size(), 1u);
  return row.front();
}

class SourceTest : public testing::Test {
 protected:
  SourceTest() {
    write_small_dataset(directory_.path(), {"a", "b", "c"}, documents(3, 700), documents(3, 300));
    dataset_.emplace(directory_.path());
  }
  TemporaryDirectory directory_;
  std::optional<Dataset> dataset_;
};

TEST_F(SourceTest, ShapesAreThoseOfTheTable) {
  const DatasetSource source = training(*dataset_, {.inputs_length = 64});
  EXPECT_EQ(source.inputs_width(), 64);
  EXPECT_EQ(source.targets_width(), 14);
  EXPECT_EQ(source.vocabulary().size % 128, 0);
  EXPECT_EQ(source.epoch_size(), 30);  // 700 ids = 10 segments of 70 for each label
  TokenBatch batch;
  source.fill(std::vector<int64_t>{0, 5, 31}, batch);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_EQ(batch.inputs.size(), 3u * 64);
  EXPECT_EQ(batch.targets.size(), 3u * 14);
  EXPECT_EQ(batch.labels.size(), 3u);
  source.fill({}, batch);
  EXPECT_EQ(batch.rows, 0);
  EXPECT_TRUE(batch.inputs.empty());
}

TEST_F(SourceTest, RowsHoldTheSamplesAndPadding) {
  // 700 = 5 * 126 + 70: the last segments are short.
  const DatasetSource source = training(*dataset_, {.inputs_length = 114});
  ASSERT_EQ(source.epoch_size(), 18);
  TokenBatch batch;
  std::map<int, int> by_label;
  int shorter = 0;
  for (int64_t i = 0; i < source.epoch_size(); ++i) {
    source.fill(std::vector<int64_t>{i}, batch);
    const Sample sample = sample_of(source, i);
    ++by_label[batch.labels[0]];
    EXPECT_EQ(batch.labels[0], sample.label);
    shorter += sample.inputs.size() < 114;
    for (size_t j = 0; j < batch.inputs.size(); ++j) {
      EXPECT_EQ(batch.inputs[j], j < sample.inputs.size() ? sample.inputs[j] : kPadId);
    }
    for (size_t j = 0; j < batch.targets.size(); ++j) {
      EXPECT_EQ(batch.targets[j], j < sample.targets.size() ? sample.targets[j] : kPadId);
    }
    for (const int32_t id : sample.inputs) {
      if (id == kEosId || dataset_->tokenizer().is_sentinel(id)) continue;
      EXPECT_EQ(id / 10 - 1, sample.label) << "text of another label";
    }
  }
  EXPECT_EQ(by_label, (std::map<int, int>{{0, 6}, {1, 6}, {2, 6}}));
  EXPECT_EQ(shorter, 3);
}

TEST_F(SourceTest, SamplesArePureAndDifferByEpochAndSeed) {
  const TextOptions options{.inputs_length = 64, .seed = 8};
  const DatasetSource a = training(*dataset_, options);
  const DatasetSource b = training(*dataset_, options);
  std::map<int64_t, std::set<ReusedVector<int32_t>>> by_segment;
  for (int64_t i = 100; i >= 0; --i) {
    EXPECT_EQ(sample_of(a, i).inputs, sample_of(b, i).inputs);
    EXPECT_EQ(sample_of(a, i).targets, sample_of(b, i).targets);
    if (i < 90) by_segment[sample_of(a, i).example].insert(sample_of(a, i).inputs);
  }
  for (const auto& [segment, inputs] : by_segment) {
    EXPECT_EQ(inputs.size(), 3u) << "three epochs, three corruptions of segment " << segment;
  }
  auto other_options = options;
  other_options.seed = 9;
  const DatasetSource other = training(*dataset_, other_options);
  int same = 0;
  for (int64_t i = 0; i < 30; ++i) same += sample_of(a, i).inputs == sample_of(other, i).inputs;
  EXPECT_LT(same, 3);
}

TEST_F(SourceTest, EvaluationIsAlwaysTheSame) {
  const auto a = evaluation(*dataset_, {.inputs_length = 64, .seed = 1}, 7);
  const auto b = evaluation(*dataset_, {.inputs_length = 64, .seed = 2}, 1000);
  EXPECT_EQ(a->epoch_size(), 7);
  EXPECT_EQ(b->epoch_size(), 15);  // 300 = 4 * 70 + 20, and 20 >= 16
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_EQ(sample_of(*a, i).inputs, sample_of(*b, i).inputs);
    EXPECT_EQ(sample_of(*a, i).targets, sample_of(*b, i).targets);
  }
  EXPECT_THROW(a->row(7), Error);
}

TEST_F(SourceTest, RefusesWhatCannotWork) {
  const auto make = [&](const TextOptions& options) {
    examples(*dataset_, Split::kTrain, options);
  };
  EXPECT_THROW(make({.inputs_length = 4096}), ConfigError);
  EXPECT_THROW(make({.inputs_length = 2}), ConfigError);
  EXPECT_THROW(make({.min_tokens = 0}), ConfigError);
  TemporaryDirectory directory;
  write_small_dataset(directory.path(), {"a"}, documents(1, 100), {});
  const Dataset dataset(directory.path());
  EXPECT_THROW(examples(dataset, Split::kValidation, {}), InputError);
  TemporaryDirectory ids;
  write_small_dataset(ids.path(), {"a"}, documents(1, 100), documents(1, 100), ExampleKind::kText,
                      Vocabulary{.size = 100, .eos = 99});
  const Dataset without_sentinels(ids.path());
  EXPECT_THROW(examples(without_sentinels, Split::kTrain, {}), ConfigError);
}

// Ids of any vocabulary: id 0 is one like any other, sentinels stand in the middle, nothing closes.
TEST_F(SourceTest, IdsWithoutPaddingOrEndOfText) {
  const Vocabulary vocabulary{.size = 1000, .first_sentinel = 500, .sentinels = 20};
  std::vector<SmallDocument> zeros = {{0, std::vector<int32_t>(140, 0)}};
  TemporaryDirectory directory;
  write_small_dataset(directory.path(), {"a"}, zeros, zeros, ExampleKind::kText, vocabulary);
  const Dataset dataset(directory.path());
  EXPECT_FALSE(dataset.has_tokenizer());
  const DatasetSource source = training(dataset, {});
  TokenBatch batch;
  source.fill(std::vector<int64_t>{0, 1}, batch);
  const auto count = [](const std::vector<int32_t>& all, int32_t value) {
    return std::count(all.begin(), all.end(), value);
  };
  // 70 ids each: 10 are noise (rint(70 * 0.15f)), in 3 spans.
  EXPECT_EQ(count(batch.inputs_segment, 1), 2 * (60 + 3));
  EXPECT_EQ(count(batch.targets_segment, 1), 2 * (10 + 3));
  for (const int32_t sentinel : {500, 499, 498}) {
    EXPECT_EQ(count(batch.inputs, sentinel), 2) << sentinel;
    EXPECT_EQ(count(batch.targets, sentinel), 2) << sentinel;
  }
  EXPECT_EQ(count(batch.inputs, 0), 2 * (60 + 1)) << "ids, and one place of padding a row";
  const auto made = examples(dataset, Split::kTrain, {});
  EXPECT_EQ(made->lengths(0).inputs, 63);
  EXPECT_EQ(made->lengths(0).targets, 13);
}

// Pairs: the dataset has them as neighbouring documents.
class PairsTest : public testing::Test {
 protected:
  PairsTest() {
    write_small_dataset(
        directory_.path(), {"x", "y"},
        {{0, {10, 11, 12}}, {0, {20}}, {1, {30, 31, 32, 33, 34}}, {1, {40, 41, 42}}},
        {{1, {50}}, {1, {51}}}, ExampleKind::kPairs);
    dataset_.emplace(directory_.path());
  }
  TemporaryDirectory directory_;
  std::optional<Dataset> dataset_;
};

TEST_F(PairsTest, AreClosedAndCutAtTheEnd) {
  const PairExamples whole(*dataset_, Split::kTrain, 8, 8);
  ASSERT_EQ(whole.size(), 2);
  EXPECT_EQ(whole.sample(0, {}).inputs, (std::vector<int32_t>{10, 11, 12, kEosId}));
  EXPECT_EQ(whole.sample(0, {}).targets, (std::vector<int32_t>{20, kEosId}));
  EXPECT_EQ(whole.sample(1, {}).label, 1);
  const PairExamples cut(*dataset_, Split::kTrain, 4, 3);
  EXPECT_EQ(cut.sample(0, {}).inputs, (std::vector<int32_t>{10, 11, 12, kEosId}));
  EXPECT_EQ(cut.sample(1, {}).inputs, (std::vector<int32_t>{30, 31, 32, kEosId}));
  EXPECT_EQ(cut.sample(1, {}).targets, (std::vector<int32_t>{40, 41, kEosId}));
  EXPECT_EQ(cut.lengths(1).inputs, 4);
  EXPECT_EQ(cut.lengths(1).targets, 3);
  EXPECT_EQ(count_cut(*dataset_, Split::kTrain, 4, 3).inputs, 1);
  EXPECT_EQ(count_cut(*dataset_, Split::kTrain, 4, 3).targets, 1);
  EXPECT_EQ(count_cut(*dataset_, Split::kTrain, 6, 4).inputs, 0);
  EXPECT_EQ(count_cut(*dataset_, Split::kTrain, 6, 4).targets, 0);
}

TEST_F(PairsTest, FillPackedRows) {
  const DatasetSource source(*dataset_,
                             std::make_unique<PairExamples>(*dataset_, Split::kTrain, 12, 8),
                             {.inputs_width = 12, .targets_width = 8, .packing = true});
  ASSERT_EQ(source.epoch_size(), 1) << "4 + 6 inputs and 2 + 4 targets fit";
  TokenBatch batch;
  source.fill(std::vector<int64_t>{0, 1}, batch);
  EXPECT_TRUE(batch.packed);
  ASSERT_EQ(batch.labels.size(), 4u);
  for (int64_t row = 0; row < 2; ++row) {
    const auto part = [&](const std::vector<int32_t>& all, int width) {
      const auto begin = all.begin() + row * width;
      return std::vector<int32_t>(begin, begin + width);
    };
    // Which of the two comes first is the seed's to say.
    const bool x_first = batch.label_of(row, 1) == 0;
    EXPECT_EQ(batch.label_of(row, 2), x_first ? 1 : 0);
    const std::vector<int32_t> x_then_y{10, 11, 12, 1, 30, 31, 32, 33, 34, 1, 0, 0};
    const std::vector<int32_t> y_then_x{30, 31, 32, 33, 34, 1, 10, 11, 12, 1, 0, 0};
    EXPECT_EQ(part(batch.inputs, 12), x_first ? x_then_y : y_then_x);
    EXPECT_EQ(part(batch.inputs_segment, 12),
              x_first ? (std::vector<int32_t>{1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0})
                      : (std::vector<int32_t>{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0}));
    EXPECT_EQ(part(batch.targets, 8), x_first ? (std::vector<int32_t>{20, 1, 40, 41, 42, 1, 0, 0})
                                              : (std::vector<int32_t>{40, 41, 42, 1, 20, 1, 0, 0}));
    EXPECT_EQ(part(batch.targets_segment, 8), x_first
                                                  ? (std::vector<int32_t>{1, 1, 2, 2, 2, 2, 0, 0})
                                                  : (std::vector<int32_t>{1, 1, 1, 1, 2, 2, 0, 0}));
  }
}

TEST_F(PairsTest, EvaluationIsNeverPacked) {
  const auto source = DatasetSource::evaluation(
      *dataset_, std::make_unique<PairExamples>(*dataset_, Split::kTrain, 12, 8),
      {.inputs_width = 12, .targets_width = 8, .packing = true}, 100);
  EXPECT_EQ(source->epoch_size(), 2);
  TokenBatch batch;
  source->fill(std::vector<int64_t>{0, 1}, batch);
  EXPECT_FALSE(batch.packed);
  EXPECT_EQ(batch.labels.size(), 2u);
}

// A source that says exactly which targets there are.
class FixedSource : public TokenSource {
 public:
  int inputs_width() const override { return 1; }
  int targets_width() const override { return 6; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return names_; }
  int64_t epoch_size() const override { return 3; }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    static const std::vector<int32_t> kRows[3] = {
        {27, 5, 6, 5, kEosId}, {27, 5, 7, kEosId}, {27, 9, 9, 26, 9, kEosId}};
    batch.reset(1, 6);
    for (const int64_t index : indices) {
      batch.add_row(kPadId);
      batch.add_sample(std::vector<int32_t>{3}, kRows[index], index == 2 ? 1 : 0);
    }
  }

 private:
  Vocabulary vocabulary_{
      .size = 128, .pad = kPadId, .eos = kEosId, .first_sentinel = 119, .sentinels = 100};
  std::vector<std::string> names_{"x", "y", "z"};
};

// Label x: 5, 6, 5, 5, 7 are paid for: p(5) = 3/5, p(6) = p(7) = 1/5; 9 target tokens with two
// sentinels and two ends. Label y: only 9, p = 1: 0 nats over 6 tokens.
TEST(UnigramEntropy, AgreesWithAHandComputation) {
  const UnigramEntropy entropy = unigram_entropy(FixedSource());
  const double nats = -3 * std::log(0.6) - 2 * std::log(0.2);
  ASSERT_EQ(entropy.labels.size(), 3u);
  EXPECT_EQ(entropy.labels[0].name, "x");
  EXPECT_EQ(entropy.labels[0].target_tokens, 9);
  EXPECT_EQ(entropy.labels[0].free_tokens, 4);
  EXPECT_NEAR(entropy.labels[0].nats_per_token, nats / 9, 1e-12);
  EXPECT_EQ(entropy.labels[1].target_tokens, 6);
  EXPECT_EQ(entropy.labels[1].free_tokens, 3);
  EXPECT_NEAR(entropy.labels[1].nats_per_token, 0.0, 1e-12);
  EXPECT_EQ(entropy.labels[2].target_tokens, 0);
  EXPECT_EQ(entropy.labels[2].nats_per_token, 0.0);
  EXPECT_EQ(entropy.target_tokens, 15);
  EXPECT_NEAR(entropy.nats_per_token, nats / 15, 1e-12);
}

}  // namespace
}  // namespace switchyard
