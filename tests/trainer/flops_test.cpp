// The counted floating-point operations of a training step against a formula from the model's
// shapes.
#include <gtest/gtest.h>

#include <cmath>

#include "collectives/single.h"
#include "collectives/threaded.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "trainer/train_step.h"

namespace switchyard::test {
namespace {

constexpr const char* kConfig = R"(
name: small
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 3, dropout: 0.1}
moe:
  experts: 5
  group_sequences: 2
  capacity: {train_factor: 1.0}
  encoder: {layers: {every: 2}, router: {type: switch}}
  decoder: {layers: {every: 2}, router: {type: switch}}
train: {steps: 30, batch_sequences: 16}
)";
constexpr int64_t kSequences = 16, kInputs = 11, kTargets = 7, kVocabulary = 128;

StepRecord first_step(const std::vector<std::string>& overrides, Collectives& world,
                      const char* yaml = kConfig) {
  const Config config = parse_config(yaml, "small.yaml", overrides, choice_tables());
  const RandomSource source(kInputs, kTargets, kVocabulary);
  RunParts parts(config, kVocabulary, world, 1);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      {.layout = parts.layout, .seed = 7});
  step.run(0);
  return step.run(1);  // nothing of the first one is left in it
}

int64_t kept_choices(const LayerRecord& layer) {
  double chosen = 0;
  for (int64_t load : layer.load) chosen += static_cast<double>(load);
  return std::llround(chosen * (1 - layer.dropped_share));
}

// Multiplications and additions of the forward products; each has two products in backward.
int64_t expected_flops(const StepRecord& record) {
  constexpr int64_t kD = 24, kInner = 16, kF = 40, kE = 5;
  constexpr int64_t kEncoderTokens = kSequences * kInputs, kDecoderTokens = kSequences * kTargets;
  const auto projections = [](int64_t queries, int64_t keys) {
    return 2 * kD * kInner * (2 * queries + 2 * keys);
  };
  // Scores and values; kInner is heads times width.
  const auto pairs = [](int64_t count) { return 2 * 2 * kSequences * kInner * count; };
  const auto dense = [](int64_t tokens) { return 2 * 2 * kD * kF * tokens; };
  const auto router = [](int64_t tokens) { return 2 * kD * kE * tokens; };

  int64_t forward = 2 * (projections(kEncoderTokens, kEncoderTokens) + pairs(kInputs * kInputs));
  forward += 3 * (projections(kDecoderTokens, kDecoderTokens) +
                  pairs(kTargets * (kTargets + 1) / 2));  // causal
  forward += 3 * (projections(kDecoderTokens, kEncoderTokens) + pairs(kTargets * kInputs));
  forward += dense(kEncoderTokens) + 2 * dense(kDecoderTokens);
  forward += router(kEncoderTokens) + router(kDecoderTokens);
  for (const LayerRecord& layer : record.layers) forward += dense(kept_choices(layer));
  forward += 2 * kD * kVocabulary * kDecoderTokens;  // the head; the embedding is a look-up
  return 3 * forward;
}

// Grouped queries, a window, gated experts, two for each token.
constexpr const char* kDecoderConfig = R"(
name: small
device: cpu
model: {type: decoder_lm, d_model: 24, d_kv: 8, d_ff: 40, heads: 4, kv_heads: 2, layers: 2,
        sliding_window: 3, activation: swiglu}
moe: {experts: 5, layers: all, capacity: {overflow: dropless}, router: {type: top_k, top_k: 2}}
data: {task: text_to_text}
train: {steps: 30, batch_sequences: 16}
)";

TEST(Flops, OfADecoderAlone) {
  constexpr int64_t kTokens = kSequences * kTargets, kD = 24, kWidth = 8, kHeads = 4, kKeyHeads = 2;
  const StepRecord record = first_step({}, *make_single_collectives(), kDecoderConfig);
  int64_t chosen = 0;
  for (const LayerRecord& layer : record.layers) {
    for (const int64_t load : layer.load) chosen += load;
  }
  const int64_t projections = 2 * kD * kWidth * (2 * kHeads + 2 * kKeyHeads) * kTokens;
  const int64_t visible = 1 + 2 + (kTargets - 2) * 3;
  const int64_t attention = 2 * 2 * kSequences * kHeads * kWidth * visible;
  const int64_t router = 2 * kD * 5 * kTokens, expert = 3 * 2 * kD * 40;
  const int64_t head = 2 * kD * kVocabulary * kTokens;
  EXPECT_EQ(record.flops, 3 * (2 * (projections + attention + router) + chosen * expert + head));
}

TEST(Flops, EqualTheFormulaInEveryLayout) {
  const StepRecord one = first_step({}, *make_single_collectives());
  EXPECT_EQ(one.layers.size(), 2u);
  EXPECT_GT(one.dropped_share, 0.01) << "no dropped token that must not be counted";
  EXPECT_EQ(one.flops, expected_flops(one));

  const StepRecord pieces = first_step({"train.micro_batches=2"}, *make_single_collectives());
  EXPECT_EQ(pieces.flops, expected_flops(pieces));
  for (int ranks : {2, 3}) {
    run_threaded_ranks(ranks, [&](Collectives& world) {
      const StepRecord shared = first_step({}, world);
      EXPECT_EQ(shared.flops, expected_flops(shared)) << ranks << " ranks";
    });
  }
}

}  // namespace
}  // namespace switchyard::test
