// Packing changes what is computed together, not what is computed: a packed model's losses and
// gradients are those of its examples one by one.
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "models/small_model.h"
#include "trainer/micro_batch.h"

namespace switchyard::test {
namespace {

constexpr int kVocabulary = 29;
constexpr int kInputsWidth = 17, kTargetsWidth = 13;

struct Pair {
  std::vector<int32_t> inputs, targets;
};

std::vector<Pair> random_pairs() {
  const RandomKey key{.seed = 4};
  uint32_t drawn = 0;
  const auto below = [&](int count) {
    return static_cast<int>(random_uniform(key, 0, 0, drawn++) * static_cast<float>(count));
  };
  std::vector<Pair> pairs(9);
  for (Pair& pair : pairs) {
    for (int i = 2 + below(6); i > 0; --i) pair.inputs.push_back(1 + below(kVocabulary - 1));
    for (int i = 1 + below(5); i > 0; --i) pair.targets.push_back(1 + below(kVocabulary - 1));
  }
  return pairs;
}

// Rows of these pairs: one each, or as many as fit, in order.
class PairSource : public TokenSource {
 public:
  PairSource(const std::vector<Pair>& pairs, bool packed) : pairs_(pairs), packed_(packed) {
    size_t inputs = 0, targets = 0;
    for (size_t i = 0; i < pairs.size(); ++i) {
      const bool fits = packed && inputs + pairs[i].inputs.size() <= kInputsWidth &&
                        targets + pairs[i].targets.size() <= kTargetsWidth;
      if (rows_.empty() || !fits) {
        rows_.emplace_back();
        inputs = targets = 0;
      }
      rows_.back().push_back(i);
      inputs += pairs[i].inputs.size();
      targets += pairs[i].targets.size();
    }
  }
  int inputs_width() const override { return kInputsWidth; }
  int targets_width() const override { return kTargetsWidth; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return names_; }
  int64_t epoch_size() const override { return std::ssize(rows_); }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    batch.reset(kInputsWidth, kTargetsWidth, packed_);
    for (const int64_t index : indices) {
      batch.add_row(0);
      for (const size_t pair : rows_[static_cast<size_t>(index)]) {
        batch.add_sample(pairs_[pair].inputs, pairs_[pair].targets, static_cast<int>(pair));
      }
    }
  }

 private:
  const std::vector<Pair>& pairs_;
  bool packed_;
  std::vector<std::vector<size_t>> rows_;
  Vocabulary vocabulary_{.size = kVocabulary, .pad = 0};
  std::vector<std::string> names_ = std::vector<std::string>(9, "");
};

struct Result {
  std::map<int, Numbers> losses;  // of each pair's targets in order
  std::map<std::string, Numbers> gradients;
};

class PackedBatch : public testing::TestWithParam<Arithmetic> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << "not usable on this machine";
  }

  static ModelOptions options() {
    ModelOptions options;
    options.vocabulary = kVocabulary;
    options.d_model = 12;
    options.d_kv = 4;
    options.heads = 3;
    options.d_ff = 10;
    options.encoder_blocks = options.decoder_blocks = 2;
    options.encoder_step = options.decoder_step = 2;
    options.experts = 3;
    options.buckets = 8;  // so that distances inside a row fall into all buckets
    options.max_distance = 12;
    options.capacity.tokens = 1000;  // drops depend on what shares a routing group
    return options;
  }

  // Forward and backward over all rows of a source; `keep_apart` false leaves the segments' mask
  // out.
  static Result run(const TokenSource& source, bool keep_apart = true) {
    SingleModel model(GetParam(), options(), /*seed=*/11);
    const int64_t rows = source.epoch_size();
    const MicroBatch batch(source, {.sequences = rows, .group_sequences = rows}, 0, 0, 0);
    LayerContext ctx = model->context(true);
    ModelBatch on_device = batch.upload_to(ctx);
    if (!keep_apart) on_device.encoder.packed = on_device.decoder.packed = false;
    for (Weight* weight : model->model().weights()) weight->begin_step();
    const Numbers losses = numbers_of(ctx, model->model().forward(ctx, on_device, 0.01));
    model->model().backward(ctx, on_device);
    Result result;
    const TokenBatch& samples = batch.samples();
    for (size_t i = 0; i < losses.size(); ++i) {
      const int32_t segment = samples.targets_segment[i];
      if (segment == 0) continue;
      result.losses[samples.label_of(static_cast<int64_t>(i) / kTargetsWidth, segment)].push_back(
          losses[i]);
    }
    for (const NamedSlice& slice : slices_of(model->model().weights())) {
      if (slice.weight->gradient_written()) {
        result.gradients[slice.name] = numbers_of(ctx, slice.gradient());
      }
    }
    return result;
  }

  const std::vector<Pair> pairs_ = random_pairs();
};

double largest_difference(const Numbers& a, const Numbers& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

TEST_P(PackedBatch, GivesTheLossesAndGradientsOfItsExamples) {
  const PairSource packed(pairs_, true);
  ASSERT_LT(packed.epoch_size(), 5) << "rows of several examples";
  const Result expected = run(PairSource(pairs_, false)), seen = run(packed);
  const double tolerance = GetParam().tolerance(1e-9, 2e-5);
  ASSERT_EQ(seen.losses.size(), pairs_.size());
  for (const auto& [pair, losses] : expected.losses) {
    EXPECT_LE(largest_difference(seen.losses.at(pair), losses), tolerance) << "pair " << pair;
  }
  ASSERT_EQ(seen.gradients.size(), expected.gradients.size());
  EXPECT_TRUE(seen.gradients.contains("encoder.position_bias"));
  EXPECT_TRUE(seen.gradients.contains("decoder.position_bias"));
  for (const auto& [name, gradient] : expected.gradients) {
    const double size = largest_difference(gradient, Numbers(gradient.size()));
    EXPECT_LE(largest_difference(seen.gradients.at(name), gradient),
              tolerance * std::max(size, 1e-3))
        << name;
  }
}

// The test above sees it when a segment sees another one.
TEST_P(PackedBatch, DiffersWithoutTheMask) {
  const PairSource packed(pairs_, true);
  const Result expected = run(PairSource(pairs_, false)), seen = run(packed, false);
  double largest = 0;
  for (const auto& [pair, losses] : expected.losses) {
    largest = std::max(largest, largest_difference(seen.losses.at(pair), losses));
  }
  EXPECT_GT(largest, 1e-3);
}

// The decoder begins every segment with the start id, not with the end of the one before.
TEST_P(PackedBatch, TargetsAreShiftedInsideTheirSegment) {
  const std::vector<Pair> pairs{{{5, 6}, {7, 8, 1}}, {{9}, {3, 1}}, {{4}, {2}}};
  const PairSource source(pairs, true);
  ASSERT_EQ(source.epoch_size(), 1);
  SingleModel model(GetParam(), options());
  LayerContext ctx = model->context(false);
  const MicroBatch batch(source, {.sequences = 1, .group_sequences = 1}, 0, 0, 0);
  const ModelBatch on_device = batch.upload_to(ctx);
  EXPECT_EQ(read_back_as<int32_t>(ctx, on_device.decoder.ids),
            (std::vector<int32_t>{0, 7, 8, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(read_back_as<int32_t>(ctx, on_device.targets),
            (std::vector<int32_t>{7, 8, 1, 3, 1, 2, -100, -100, -100, -100, -100, -100, -100}));
  EXPECT_EQ(read_back_as<int32_t>(ctx, on_device.decoder.segment),
            (std::vector<int32_t>{1, 1, 1, 2, 2, 3, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(batch.target_tokens(), 6);
  EXPECT_EQ(batch.real_tokens(), 10);
}

// Texts for a decoder alone: it reads the ids themselves, and nothing stands in the encoder.
class TextRow : public PairSource {
 public:
  using PairSource::PairSource;
  bool causal() const override { return true; }
  int inputs_width() const override { return 7; }
  int targets_width() const override { return 7; }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    batch.reset(7, 7, true);
    for (int64_t i = 0; i < std::ssize(indices); ++i) {
      batch.add_row(0);
      batch.add_text(std::vector<int32_t>{5, 6, 1}, 3, 0, 2);
      batch.add_text(std::vector<int32_t>{7, 8, 9, 4}, 3, 2, 4);
    }
  }
};

TEST_P(PackedBatch, ADecoderAloneReadsTheTextItself) {
  const TextRow source(pairs_, true);
  SingleModel model(GetParam(), options());
  LayerContext ctx = model->context(false);
  const MicroBatch batch(source, {.sequences = 2, .group_sequences = 1}, 0, 0, 0);
  const ModelBatch on_device = batch.upload_to(ctx);
  EXPECT_EQ(on_device.encoder.tokens(), 0);
  const auto rows = [&](TensorView x) { return read_back_as<int32_t>(ctx, x); };
  const auto twice = [](std::vector<int32_t> row) {
    const std::vector<int32_t> again = row;
    row.insert(row.end(), again.begin(), again.end());
    return row;
  };
  EXPECT_EQ(rows(on_device.decoder.ids), twice({5, 6, 1, 7, 8, 9, 0}));
  EXPECT_EQ(rows(on_device.decoder.segment), twice({1, 1, 1, 2, 2, 2, 0}));
  EXPECT_EQ(rows(on_device.decoder.position), twice({0, 1, 2, 0, 1, 2, 0}));
  EXPECT_EQ(rows(on_device.targets), twice({6, 1, -100, -100, 9, 4, -100}));
  EXPECT_TRUE(on_device.decoder.packed);
  EXPECT_EQ(on_device.decoder.group_tokens, 7);
  EXPECT_EQ(std::vector<int32_t>(on_device.decoder.labels.begin(), on_device.decoder.labels.end()),
            twice({2, 2, 2, 4, 4, 4, 0}));
  EXPECT_EQ(batch.target_tokens(), 8);
  EXPECT_EQ(batch.real_tokens(), 12);
}

std::string name_of_parameter(const testing::TestParamInfo<Arithmetic>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Models, PackedBatch, testing::ValuesIn(arithmetics()), name_of_parameter);

}  // namespace
}  // namespace switchyard::test
