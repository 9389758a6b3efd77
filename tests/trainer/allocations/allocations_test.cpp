// After its second step, training takes nothing from the heap.
#include <gtest/gtest.h>

#include "collectives/threaded.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "support/allocation_counter.h"

namespace switchyard::test {
namespace {

constexpr const char* kSwitchT5 = R"(
name: allocations
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 8, batch_sequences: 16, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 2}
)";
constexpr const char* kDecoderLm = R"(
name: allocations
device: cpu
model: {type: decoder_lm, d_model: 24, d_ff: 20, heads: 4, kv_heads: 2, layers: 2, dropout: 0.1,
        activation: swiglu, qk_norm: per_head}
data: {task: causal}
moe:
  experts: 6
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  layers: all
  router: {type: top_k, top_k: 2}
train: {steps: 8, batch_sequences: 16, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 2}
)";

constexpr int kWarmSteps = 2, kSteps = 6;

struct Setting {
  std::string name;
  const char* config = kSwitchT5;
  std::vector<std::string> overrides = {};
  int ranks = 1, threads = 1;
};

void train(const Setting& setting, Collectives& world) {
  const Config config =
      parse_config(setting.config, "allocations.yaml", setting.overrides, choice_tables());
  const bool causal = config.model.type == "decoder_lm";
  const RandomSource source(11, causal ? 11 : 7, 128);
  RunParts parts(config, 128, world, setting.threads);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      step_options(config, parts.layout));
  step.rehearse();
  const size_t planned_bytes = step.workspace_bytes();
  for (int i = 0; i < kWarmSteps; ++i) step.run(i);
  world.barrier();
  if (world.rank() == 0) begin_counting_allocations();
  world.barrier();
  for (int i = kWarmSteps; i < kSteps; ++i) step.run(i);
  world.barrier();
  if (world.rank() != 0) return;
  const Allocations taken = end_counting_allocations();
  EXPECT_EQ(step.workspace_bytes(), planned_bytes) << "an arena has grown";
  EXPECT_EQ(taken.count, 0) << taken.first;
}

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

class AllocationsOfAStep : public testing::TestWithParam<Setting> {};

TEST_P(AllocationsOfAStep, AreNoneAfterTheSecond) {
  if (!can_count_allocations()) GTEST_SKIP() << "the sanitizer has its own malloc";
  run_threaded_ranks(GetParam().ranks, [&](Collectives& world) { train(GetParam(), world); });
}

const std::vector<std::string> kDropless = {"moe.capacity.overflow=dropless",
                                            "moe.capacity.max_tokens_per_round=64",
                                            "train.recompute=blocks"};

const Setting kSettings[] = {
    {"switch", kSwitchT5},
    {"switch_two_threads", kSwitchT5, {}, 1, 2},
    {"switch_on_two_ranks", kSwitchT5, {}, 2},
    {"top_k", kDecoderLm},
    {"top_k_on_two_ranks", kDecoderLm, {}, 2},
    {"bfloat16", kSwitchT5, {"train.precision=bfloat16"}},
    {"bfloat16_top_k_on_two_ranks", kDecoderLm, {"train.precision=bfloat16"}, 2},
    {"ordered", kSwitchT5, {"train.reduction=ordered"}},
    {"ordered_top_k_on_two_ranks", kDecoderLm, {"train.reduction=ordered"}, 2},
    {"dropless_in_rounds", kSwitchT5, kDropless},
    {"dropless_in_rounds_on_two_ranks", kSwitchT5, kDropless, 2},
    {"dropless_top_k", kDecoderLm, kDropless, 2},
    {"micro_batches_counted_first",
     kSwitchT5,
     {"train.micro_batches=2", "moe.losses.load_balance.scope=global",
      "moe.losses.load_balance.two_pass=true"},
     2},
    {"chunks_sharded_adafactor",
     kSwitchT5,
     {"moe.overlap_chunks=2", "optimizer.type=adafactor", "optimizer.shard=true",
      "moe.expert_dropout=0.2", "moe.wire_dtype=bfloat16"},
     2},
    {"all_gathering", kSwitchT5, {"moe.dispatch=allgather", "optimizer.type=sgd"}, 2},
    {"sigmoid_with_bias",
     kDecoderLm,
     {"moe.router={type: top_k, top_k: 2, score: sigmoid, bias_update_rate: 0.01}"}},
    {"gshard", kSwitchT5, {"moe.encoder.router={type: gshard}"}},
    {"noisy_top_k", kSwitchT5, {"moe.encoder.router={type: noisy_top_k, top_k: 2}"}, 2},
    {"sinkhorn_two_threads", kSwitchT5, {"moe.encoder.router={type: sinkhorn}"}, 1, 2},
    {"hash", kSwitchT5, {"moe.encoder.router={type: hash}"}},
    {"hierarchical",
     kSwitchT5,
     {"moe.experts=6",
      "moe.encoder.router={type: hierarchical, top_k: 4, groups: {count: 3, top: 2}}"}},
    {"expert_choice", kSwitchT5, {"moe.encoder.router={type: expert_choice}"}, 2},
    {"soft_two_threads", kSwitchT5, {"moe.encoder.router={type: soft}"}, 1, 2},
};
INSTANTIATE_TEST_SUITE_P(All, AllocationsOfAStep, testing::ValuesIn(kSettings),
                         [](const auto& tested) { return tested.param.name; });

// Otherwise the zeros above would say nothing.
TEST(AllocationCounter, SeesWhatIsTaken) {
  if (!can_count_allocations()) GTEST_SKIP() << "the sanitizer has its own malloc";
  static std::unique_ptr<std::vector<int>> taken;  // static, or the compiler leaves it out
  begin_counting_allocations();
  taken = std::make_unique<std::vector<int>>(100);
  const Allocations seen = end_counting_allocations();
  EXPECT_EQ(seen.count, 2);
  EXPECT_NE(seen.first.find("operator new"), std::string::npos) << seen.first;
}

}  // namespace
}  // namespace switchyard::test
