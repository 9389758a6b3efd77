#include "data/span_corruption_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/errors.h"
#include "data/small_dataset.h"
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
  const SpanCorruptionSource source(*dataset_, Split::kTrain, {.inputs_length = 64});
  EXPECT_EQ(source.inputs_width(), 64);
  EXPECT_EQ(source.targets_width(), 14);
  EXPECT_EQ(source.vocabulary() % 128, 0);
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
  const SpanCorruptionSource source(*dataset_, Split::kTrain, {.inputs_length = 114});
  ASSERT_EQ(source.epoch_size(), 18);
  TokenBatch batch;
  std::map<int, int> by_label;
  int shorter = 0;
  for (int64_t i = 0; i < source.epoch_size(); ++i) {
    source.fill(std::vector<int64_t>{i}, batch);
    const Sample sample = source.sample(i);
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
  const SpanCorruptionSourceOptions options{.inputs_length = 64, .seed = 8};
  const SpanCorruptionSource a(*dataset_, Split::kTrain, options);
  const SpanCorruptionSource b(*dataset_, Split::kTrain, options);
  std::map<int64_t, std::set<std::vector<int32_t>>> by_segment;
  for (int64_t i = 100; i >= 0; --i) {
    EXPECT_EQ(a.sample(i).inputs, b.sample(i).inputs);
    EXPECT_EQ(a.sample(i).targets, b.sample(i).targets);
    if (i < 90) by_segment[a.sample(i).segment].insert(a.sample(i).inputs);
  }
  for (const auto& [segment, inputs] : by_segment) {
    EXPECT_EQ(inputs.size(), 3u) << "three epochs, three corruptions of segment " << segment;
  }
  auto other_options = options;
  other_options.seed = 9;
  const SpanCorruptionSource other(*dataset_, Split::kTrain, other_options);
  int same = 0;
  for (int64_t i = 0; i < 30; ++i) same += a.sample(i).inputs == other.sample(i).inputs;
  EXPECT_LT(same, 3);
}

TEST_F(SourceTest, EvaluationIsAlwaysTheSame) {
  const auto a = SpanCorruptionSource::evaluation(*dataset_, Split::kValidation,
                                                  {.inputs_length = 64, .seed = 1}, 7);
  const auto b = SpanCorruptionSource::evaluation(*dataset_, Split::kValidation,
                                                  {.inputs_length = 64, .seed = 2}, 1000);
  EXPECT_EQ(a.epoch_size(), 7);
  EXPECT_EQ(b.epoch_size(), 15);  // 300 = 4 * 70 + 20, and 20 >= 16
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_EQ(a.sample(i).inputs, b.sample(i).inputs);
    EXPECT_EQ(a.sample(i).targets, b.sample(i).targets);
  }
  EXPECT_THROW(a.sample(7), Error);
}

TEST_F(SourceTest, RefusesWhatCannotWork) {
  const auto make = [&](const SpanCorruptionSourceOptions& options) {
    SpanCorruptionSource(*dataset_, Split::kTrain, options);
  };
  EXPECT_THROW(make({.inputs_length = 4096}), ConfigError);
  EXPECT_THROW(make({.inputs_length = 2}), ConfigError);
  EXPECT_THROW(make({.min_tokens = 0}), ConfigError);
  TemporaryDirectory directory;
  write_small_dataset(directory.path(), {"a"}, documents(1, 100), {});
  const Dataset dataset(directory.path());
  EXPECT_THROW(SpanCorruptionSource(dataset, Split::kValidation, {.inputs_length = 64}),
               InputError);
}

// A source that says exactly which targets there are.
class FixedSource : public TokenSource {
 public:
  int inputs_width() const override { return 1; }
  int targets_width() const override { return 6; }
  int vocabulary() const override { return 128; }
  const std::vector<std::string>& label_names() const override { return names_; }
  int64_t epoch_size() const override { return 3; }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    static const std::vector<int32_t> kRows[3] = {{27, 5, 6, 5, kEosId, kPadId},
                                                  {27, 5, 7, kEosId, kPadId, kPadId},
                                                  {27, 9, 9, 26, 9, kEosId}};
    batch = {static_cast<int64_t>(indices.size()),
             1,
             6,
             {3},
             kRows[indices[0]],
             {indices[0] == 2 ? 1 : 0}};
  }

 private:
  std::vector<std::string> names_{"x", "y", "z"};
};

// Label x: 5, 6, 5, 5, 7 are paid for: p(5) = 3/5, p(6) = p(7) = 1/5; 9 target tokens with two
// sentinels and two ends. Label y: only 9, p = 1: 0 nats over 6 tokens.
TEST(UnigramEntropy, AgreesWithAHandComputation) {
  const UnigramEntropy entropy = unigram_entropy(FixedSource(), 20);
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
