#include "trainer/layout_comparison.h"

#include <ostream>

#include "collectives/single.h"
#include "models/random_source.h"
#include "ops/kernels.h"
#include "registry/choices.h"
#include "trainer/workspace.h"
#include "verify/verifier.h"

namespace switchyard::test {

namespace {

constexpr const char* kSmallConfig = R"(
name: small
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 30, batch_sequences: 16, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";

// Every layer a mixture, as in Mixtral; the inputs of the source aren't read.
constexpr const char* kSmallDecoderConfig = R"(
name: small
device: cpu
model: {type: decoder_lm, d_model: 24, d_ff: 20, heads: 4, kv_heads: 2, layers: 2, dropout: 0.1,
        activation: swiglu, sliding_window: 5, qk_norm: per_head, tie_embeddings: false}
data: {task: causal}
moe:
  experts: 5
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  layers: all
  router: {type: switch, jitter: 0.05}
train: {steps: 30, batch_sequences: 16, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";

VerifyCase make_case(const LayoutCase& layout, int ranks, int expert_group, int expert_tensor) {
  std::vector<std::string> overrides = layout.overrides;
  overrides.push_back("parallel.expert=" + std::to_string(expert_group));
  overrides.push_back("parallel.expert_tensor=" + std::to_string(expert_tensor));
  return {.name = layout.name,
          .config = parse_config(layout.decoder_only ? kSmallDecoderConfig : kSmallConfig,
                                 "small.yaml", overrides, choice_tables()),
          .ranks = ranks};
}

struct ZeroRouters : RunHooks {
  void before_step(HookedRank& rank) override {
    for (Weight* weight : rank.parts.weights) {
      if (weight->role() != WeightRole::kRouter) continue;
      fill_zero(rank.ctx, weight->master());
      weight->master_changed();
    }
  }
};

Verifier::MakeHooks hooks_of(const LayoutCase& layout) {
  if (!layout.all_to_expert_0) return {};
  return [] { return std::make_unique<ZeroRouters>(); };
}

RandomSource make_source() { return RandomSource(11, 7, 128); }

}  // namespace

void PrintTo(const LayoutCase& layout, std::ostream* out) { *out << layout.name; }

std::vector<LayoutCase> threaded_layouts() {
  const std::vector<std::string> seven = {"moe.experts=7"};
  const std::vector<std::string> two_groups = {"moe.group_sequences=8"};
  const std::vector<std::string> accumulated = {"train.micro_batches=4"};
  // No wider tolerance: activations and their gradients are equal bit for bit in every layout, for
  // rows are rounded one by one; what is summed over rows and ranks is float32.
  const std::vector<std::string> half = {"train.precision=bfloat16"};
  const std::vector<std::string> global = {"moe.losses.load_balance.scope=global",
                                           "moe.expert_dropout=0.3",
                                           "moe.capacity.priority=random"};
  std::vector<std::string> two_passes = global;
  two_passes.insert(two_passes.end(), {"moe.losses.load_balance.two_pass=true",
                                       "train.micro_batches=4", "train.recompute=blocks"});
  const std::vector<std::string> rerouted = {"moe.capacity.overflow=reroute",
                                             "moe.dispatch=hierarchical"};
  const std::vector<std::string> in_rounds = {
      "moe.capacity={overflow: dropless, max_tokens_per_round: 64}", "moe.dispatch=hierarchical",
      "moe.overlap_chunks=2", "parallel.ranks_per_node=2"};
  return {
      {"single", 1, 1},
      {"replicas_only_2x1", 2, 1},
      {"sharded_2x2", 2, 2},
      {"eight_groups_on_3x1", 3, 1},
      {"eight_groups_on_3x3", 3, 3},
      {"seven_experts_on_3x3", 3, 3, seven},
      {"replicas_only_4x1", 4, 1},
      {"mixed_4x2", 4, 2},
      {"sharded_4x4", 4, 4},
      {"mixed_6x3", 6, 3, seven},
      {"mixed_8x2", 8, 2},
      {"mixed_8x4", 8, 4},
      {"more_ranks_than_experts_8x8", 8, 8},
      {"more_ranks_than_groups_4x4", 4, 4, two_groups},
      {"more_ranks_than_groups_8x2", 8, 2, two_groups},
      {"accumulated_2x2", 2, 2, accumulated},
      {"accumulated_3x3", 3, 3, accumulated},
      {"bfloat16_2x2", 2, 2, half},
      {"bfloat16_4x2", 4, 2, half},
      {"bfloat16_4x4", 4, 4, half},
      {"bfloat16_accumulated_3x1", 3, 1, {"train.precision=bfloat16", "train.micro_batches=4"}},
      {"global_scope_2x2", 2, 2, global},
      {"two_passes_recomputed_3x3", 3, 3, two_passes},
      {"two_passes_recomputed_4x2", 4, 2, two_passes},
      {"rerouted_on_one_node_2x2", 2, 2, rerouted},
      {"in_rounds_on_two_nodes_4x4", 4, 4, in_rounds},
      {.name = "decoder_only_2x2", .ranks = 2, .expert_group = 2, .decoder_only = true},
      {.name = "decoder_only_4x2",
       .ranks = 4,
       .expert_group = 2,
       .overrides = {"moe.capacity.overflow=dropless", "train.recompute=blocks",
                     "train.micro_batches=2"},
       .decoder_only = true},
      {.name = "decoder_only_bfloat16_3x3",
       .ranks = 3,
       .expert_group = 3,
       .overrides = half,
       .decoder_only = true},
      {"all_to_one_expert_2x2", 2, 2, {}, true},
      {"all_to_one_expert_4x4", 4, 4, {}, true},
      {.name = "sliced_2x2x2", .ranks = 2, .expert_group = 2, .expert_tensor = 2},
      {.name = "sliced_3x3x3",
       .ranks = 3,
       .expert_group = 3,
       .overrides = {"model.d_ff=36"},
       .expert_tensor = 3},
      {.name = "sliced_4x2x2_accumulated",
       .ranks = 4,
       .expert_group = 2,
       .overrides = accumulated,
       .expert_tensor = 2},
      {.name = "sliced_4x4x2_two_passes_recomputed",
       .ranks = 4,
       .expert_group = 4,
       .overrides = two_passes,
       .expert_tensor = 2},
      {.name = "sliced_4x4x4_all_to_one_expert",
       .ranks = 4,
       .expert_group = 4,
       .all_to_expert_0 = true,
       .expert_tensor = 4},
      {.name = "sliced_8x8x2_places_without_experts",
       .ranks = 8,
       .expert_group = 8,
       .overrides = {"moe.experts=2"},
       .expert_tensor = 2},
  };
}

std::vector<LayoutCase> optimizer_layouts() {
  const std::string adafactor = "optimizer={type: adafactor, min_size_to_factor: 8, weight_decay: ";
  const std::vector<std::string> layer = {adafactor + "0.1}"};
  const std::vector<std::string> expert = {adafactor + "0, stacked_experts: expert}"};
  const std::vector<std::string> losses = {
      "optimizer={type: sgd, groups: {router: {learning_rate_scale: 0.1}}}",
      "train.label_smoothing=0.1", "train.output_z_loss=0.001"};
  return {
      {"adafactor_layer_2x2", 2, 2, layer},
      {"adafactor_layer_3x3", 3, 3, layer},
      {"adafactor_layer_4x2", 4, 2, layer},
      {"adafactor_layer_8x8", 8, 8, layer},
      {"adafactor_expert_2x1", 2, 1, expert},
      {"adafactor_expert_3x3", 3, 3, expert},
      {"adafactor_expert_4x4", 4, 4, expert},
      {"sgd_with_all_losses_3x3", 3, 3, losses},
      {.name = "sgd_sliced_4x4x2",
       .ranks = 4,
       .expert_group = 4,
       .overrides = losses,
       .expert_tensor = 2},
  };
}

std::vector<LayoutCase> mpirun_layouts(int ranks) {
  std::vector<LayoutCase> layouts;
  for (const LayoutCase& layout : threaded_layouts()) {
    if (layout.ranks == ranks) layouts.push_back(layout);
  }
  return layouts;
}

Comparison compare_with_one_rank(const LayoutCase& layout, RankPool& pool) {
  const RandomSource source = make_source();
  Verifier verifier(source, pool, 128, kSteps);
  verifier.run_reference(make_case(layout, 1, 1, 1), hooks_of(layout));
  return verifier.compare(
      make_case(layout, layout.ranks, layout.expert_group, layout.expert_tensor), hooks_of(layout));
}

std::vector<StepRecord> train_on_one_rank(const LayoutCase& layout) {
  const auto world = make_single_collectives();
  const RandomSource source = make_source();
  const VerifyCase one = make_case(layout, 1, 1, 1);
  RunParts parts(one.config, 128, *world, 1);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      step_options(one.config, parts.layout));
  Workspace workspace(*parts.kernels, parts.groups, 0);
  const Verifier::MakeHooks make = hooks_of(layout);
  const std::unique_ptr<RunHooks> hooks = make ? make() : std::make_unique<RunHooks>();
  std::vector<StepRecord> records;
  for (int i = 0; i < 30; ++i) {
    LayerContext ctx = workspace.context(true, i);
    HookedRank rank{parts, ctx, i};
    hooks->before_step(rank);
    records.push_back(step.run(i));
  }
  return records;
}

}  // namespace switchyard::test
