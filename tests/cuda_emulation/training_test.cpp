// Twenty steps of both models on the emulated device, beside the same on the CPU backend.
#include <gtest/gtest.h>

#include <cmath>

#include "collectives/single.h"
#include "collectives/threaded.h"
#include "cuda_emulation/staged_collectives.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"

namespace switchyard::test {
namespace {

constexpr int kSteps = 20;

constexpr const char* kSwitchT5 = R"(
name: small
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 4
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 20, batch_sequences: 8, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";

constexpr const char* kDecoderLm = R"(
name: small
model: {type: decoder_lm, d_model: 24, d_ff: 20, heads: 4, kv_heads: 2, layers: 2, dropout: 0.1,
        activation: swiglu, sliding_window: 5, qk_norm: per_head, tie_embeddings: false}
data: {task: causal}
moe:
  experts: 4
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  layers: all
  router: {type: switch, jitter: 0.05}
train: {steps: 20, batch_sequences: 8, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";

struct Course {
  std::vector<double> losses, norms;
};

Course train(const char* yaml, const std::string& device, Collectives& world,
             std::vector<std::string> overrides, int steps = kSteps) {
  overrides.push_back("device=" + device);
  const Config config = parse_config(yaml, "small.yaml", overrides, choice_tables());
  RunParts parts(config, 128, world, 1);
  const RandomSource source(11, 7, 128);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      step_options(config, parts.layout));
  step.rehearse();
  Course course;
  for (int i = 0; i < steps; ++i) {
    const StepRecord& record = step.run(i);
    course.losses.push_back(record.loss);
    course.norms.push_back(record.gradient_norm);
  }
  return course;
}

Course train_on_cpu(const char* yaml, const std::vector<std::string>& overrides = {}) {
  const auto world = make_single_collectives();
  return train(yaml, "cpu", *world, overrides);
}

Course train_on_emulated_ranks(const char* yaml, int ranks,
                               const std::vector<std::string>& overrides = {}, int steps = kSteps) {
  Course course;
  run_threaded_ranks(ranks, [&](Collectives& threads) {
    StagedCollectives world(threads);
    const Course here = train(yaml, "cuda", world, overrides, steps);
    if (world.rank() == 0) course = here;
  });
  return course;
}

// Rounding grows from step to step.
void expect_same_course(const Course& course, const Course& expected, double tolerance) {
  ASSERT_EQ(course.losses.size(), expected.losses.size());
  for (size_t i = 0; i < expected.losses.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    EXPECT_NEAR(course.losses[i], expected.losses[i], tolerance * expected.losses[i]);
    EXPECT_NEAR(course.norms[i], expected.norms[i], 20 * tolerance * expected.norms[i]);
  }
}

TEST(EmulatedTraining, SwitchT5FollowsTheCpu) {
  expect_same_course(train_on_emulated_ranks(kSwitchT5, 1), train_on_cpu(kSwitchT5), 1e-4);
}

TEST(EmulatedTraining, DecoderLmFollowsTheCpu) {
  expect_same_course(train_on_emulated_ranks(kDecoderLm, 1), train_on_cpu(kDecoderLm), 1e-4);
}

TEST(EmulatedTraining, TwoRanksFollowTheCpu) {
  expect_same_course(train_on_emulated_ranks(kSwitchT5, 2), train_on_cpu(kSwitchT5), 1e-4);
}

TEST(EmulatedTraining, BFloat16FollowsTheCpu) {
  const std::vector<std::string> half = {"train.precision=bfloat16"};
  expect_same_course(train_on_emulated_ranks(kDecoderLm, 1, half), train_on_cpu(kDecoderLm, half),
                     1e-2);
}

TEST(EmulatedTraining, OrderedSumsGiveTheSameLossesOnTwoRanksAsOnOne) {
  const std::vector<std::string> ordered = {"train.reduction=ordered"};
  const Course one = train_on_emulated_ranks(kSwitchT5, 1, ordered, 4);
  const Course two = train_on_emulated_ranks(kSwitchT5, 2, ordered, 4);
  EXPECT_EQ(one.losses, two.losses);
  EXPECT_EQ(one.norms, two.norms);
}

}  // namespace
}  // namespace switchyard::test
