// Training in bfloat16 against float32, on a task that has something to learn.
#include <gtest/gtest.h>

#include <cmath>

#include "collectives/single.h"
#include "collectives/threaded.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "trainer/train_step.h"

namespace switchyard::test {
namespace {

constexpr int kSteps = 200;
constexpr int kVocabulary = 64, kInputs = 12, kTargets = 8;
constexpr int64_t kModelWidth = 48;

constexpr const char* kConfig = R"(
name: precision
device: cpu
model: {d_model: 48, d_kv: 16, d_ff: 96, heads: 3, encoder_layers: 2, decoder_layers: 2,
        dropout: 0.0, tie_embeddings: false, relative_attention: {buckets: 8, max_distance: 16}}
moe:
  experts: 4
  group_sequences: 16
  losses: {load_balance: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.01}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.01}}
train: {steps: 200, batch_sequences: 64}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.004, warmup_steps: 20}
)";

// A chain in which each id is followed by a certain other one, except once in five times: inputs
// are its beginning, targets the rest. Its entropy is 1.3 nats an id, where a uniform guess
// has 4.1.
class ChainSource : public TokenSource {
 public:
  int inputs_width() const override { return kInputs; }
  int targets_width() const override { return kTargets; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return labels_; }
  int64_t epoch_size() const override { return 1 << 20; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override {
    batch.reset(kInputs, kTargets);
    for (const int64_t index : global_indices) {
      const RandomKey key{.seed = 4};
      const auto sample = static_cast<uint32_t>(index);
      std::vector<int32_t> inputs, targets;
      int32_t id = 1;
      for (uint32_t i = 0; i < kInputs + kTargets; ++i) {
        const float draw = random_uniform(key, sample, 0, 2 * i);
        const float other = random_uniform(key, sample, 0, 2 * i + 1) * (kVocabulary - 1);
        id = 1 + (i > 0 && draw < 0.8f ? id * 29 % (kVocabulary - 1) : static_cast<int32_t>(other));
        (i < kInputs ? inputs : targets).push_back(id);
      }
      batch.add_row(0);
      batch.add_sample(inputs, targets, 0);
    }
  }

 private:
  Vocabulary vocabulary_{.size = kVocabulary, .pad = 0};
  std::vector<std::string> labels_ = {"all"};
};

std::vector<StepRecord> train(const std::string& precision, int steps, Collectives& world) {
  const Config config =
      parse_config(kConfig, "precision.yaml", {"train.precision=" + precision}, choice_tables());
  const ChainSource source;
  RunParts parts(config, kVocabulary, world, 1);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      {.layout = parts.layout, .seed = 3, .clip_norm = config.train.clip_norm});
  std::vector<StepRecord> records;
  for (int i = 0; i < steps; ++i) records.push_back(step.run(i));
  for (const Weight* weight : parts.weights) EXPECT_EQ(weight->dtype(), DType::kFloat32);
  return records;
}

TEST(Precision, LossesInBFloat16StayWithinTwoPercentOfFloat32) {
  const auto world = make_single_collectives();
  const std::vector<StepRecord> precise = train("float32", kSteps, *world);
  const std::vector<StepRecord> rounded = train("bfloat16", kSteps, *world);
  double largest = 0;
  for (size_t i = 0; i < precise.size(); ++i) {
    const double difference = std::abs(rounded[i].loss / precise[i].loss - 1);
    EXPECT_LE(difference, 0.02) << "step " << i << ": " << rounded[i].loss << " for "
                                << precise[i].loss;
    largest = std::max(largest, difference);
  }
  RecordProperty("largest_relative_difference", std::to_string(largest));
  EXPECT_GT(largest, 1e-6);  // it wasn't the same arithmetic
  EXPECT_GT(precise.front().loss, 3.9);
  EXPECT_LT(precise.back().loss, 2.2);
}

TEST(Precision, BFloat16HalvesTheBytesExchanged) {
  run_threaded_ranks(2, [](Collectives& world) {
    for (const auto& [precision, bytes] : {std::pair{"float32", 4}, {"bfloat16", 2}}) {
      const StepRecord record = train(precision, 1, world).front();
      ASSERT_EQ(record.layers.size(), 2u);
      for (const LayerRecord& layer : record.layers) {
        EXPECT_GT(layer.rows_exchanged, 0);
        EXPECT_EQ(layer.bytes_exchanged, layer.rows_exchanged * kModelWidth * bytes) << precision;
      }
    }
  });
}

}  // namespace
}  // namespace switchyard::test
