// train.reduction: ordered: a run has the same bits in every layout and at every accumulation
// count.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <mutex>

#include "collectives/threaded.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"

namespace switchyard::test {
namespace {

// Everything random is on, and an odd group: 8 groups of 2 sequences.
constexpr const char* kConfig = R"(
name: ordered
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 8, batch_sequences: 16, clip_norm: 0.5, reduction: ordered}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 2}
)";
constexpr const char* kDecoderConfig = R"(
name: ordered
device: cpu
model: {type: decoder_lm, d_model: 24, d_ff: 20, heads: 4, kv_heads: 2, layers: 2, dropout: 0.1,
        activation: swiglu, qk_norm: per_head}
data: {task: causal}
moe:
  experts: 5
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  layers: all
  router: {type: switch, jitter: 0.05}
train: {steps: 8, batch_sequences: 16, clip_norm: 0.5, reduction: ordered}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 2}
)";
constexpr int kSteps = 4;

struct Layout {
  std::string name;
  int ranks = 1, expert_group = 1;
  std::vector<std::string> overrides = {};
  int threads = 1;
  const char* config = kConfig;
};

// Weights, optimizer state and what each step reported, byte by byte, under global names.
class Bits {
 public:
  void add(const std::string& name, TensorView view) {
    const auto* data = static_cast<const char*>(view.raw());
    add(name, std::string(data, data + view.size_bytes()));
  }
  void add(const std::string& name, double value) {
    add(name, std::string(reinterpret_cast<const char*>(&value), sizeof value));
  }
  void add(const Weight& weight, const std::string& suffix, TensorView view) {
    if (!weight.is_expert()) return add(weight.name() + suffix, view);
    for (int64_t i = 0; i < weight.experts().count; ++i) {
      add(weight.name_of_expert(i) + suffix, view.rows(i, i + 1));
    }
  }
  bool operator==(const Bits& other) const { return tensors_ == other.tensors_; }
  void expect_equal(const Bits& other) const {
    ASSERT_EQ(tensors_.size(), other.tensors_.size());
    for (const auto& [name, bytes] : tensors_) {
      const auto found = other.tensors_.find(name);
      ASSERT_NE(found, other.tensors_.end()) << name;
      EXPECT_EQ(bytes, found->second) << name;
    }
  }

 private:
  // Copies of a tensor must be equal on all ranks that hold it.
  void add(const std::string& name, std::string bytes) {
    const std::scoped_lock lock(mutex_);
    const auto [place, is_new] = tensors_.try_emplace(name, bytes);
    EXPECT_TRUE(is_new || place->second == bytes) << name;
  }

  std::map<std::string, std::string> tensors_;
  std::mutex mutex_;
};

void train(const Layout& layout, Collectives& world, Bits& bits) {
  std::vector<std::string> overrides = layout.overrides;
  overrides.push_back("parallel.expert=" + std::to_string(layout.expert_group));
  const Config config = parse_config(layout.config, "ordered.yaml", overrides, choice_tables());
  const RandomSource source(11, 7, 128);
  RunParts parts(config, 128, world, layout.threads);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      step_options(config, parts.layout));
  for (int i = 0; i < kSteps; ++i) {
    const StepRecord record = step.run(i);
    const std::string at = "step " + std::to_string(i);
    bits.add(at + " loss", record.loss);
    bits.add(at + " norm", record.gradient_norm);
    bits.add(at + " balance", record.load_balance);
    bits.add(at + " z", record.router_z);
    for (const LayerRecord& layer : record.layers) {
      bits.add(at + " weight lost " + layer.name, layer.weight_lost_share);
      bits.add(at + " entropy " + layer.name, layer.router_entropy);
    }
  }
  for (const Weight* weight : parts.weights) bits.add(*weight, "", weight->master());
  for (const OptimizerState& state : parts.optimizer->states()) {
    bits.add(*state.weight, "/" + state.name, state.value);
  }
}

void run(const Layout& layout, Bits& bits) {
  run_threaded_ranks(layout.ranks, [&](Collectives& world) { train(layout, world, bits); });
}

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all = {
      {"two", 2, 2},
      {"two_replicas", 2, 1},
      {"three", 3, 3},
      {"four_in_pairs", 4, 2},
      {"five", 5, 5},
      {"eight_in_fours", 8, 4},
      {"three_gathering_in_chunks", 3, 3, {"moe.dispatch=allgather", "moe.overlap_chunks=2"}},
      {"two_nodes_of_two", 4, 4, {"moe.dispatch=hierarchical", "parallel.ranks_per_node=2"}},
      {"two_micro_batches", 1, 1, {"train.micro_batches=2"}},
      {"four_micro_batches_on_two", 2, 2, {"train.micro_batches=4"}},
      {"three_threads", 1, 1, {}, 3},
      {"sharded", 4, 2, {"optimizer.shard=true"}},
      {"sharded_replicas", 3, 1, {"optimizer.shard=true", "train.micro_batches=2"}},
  };
  return all;
}

struct Setting {
  std::string name;
  std::vector<std::string> overrides;
  const char* config = kConfig;
};

class OrderedLayouts : public testing::TestWithParam<Setting> {};

TEST_P(OrderedLayouts, HaveTheBitsOfOneRank) {
  const std::vector<std::string>& overrides = GetParam().overrides;
  Bits reference;
  run({"one", 1, 1, overrides, 1, GetParam().config}, reference);
  for (Layout layout : layouts()) {
    SCOPED_TRACE(layout.name);
    layout.config = GetParam().config;
    layout.overrides.insert(layout.overrides.end(), overrides.begin(), overrides.end());
    Bits bits;
    run(layout, bits);
    reference.expect_equal(bits);
  }
}

const Setting kSettings[] = {
    {"cpu", {}},
    {"cpu_bfloat16", {"train.precision=bfloat16", "moe.expert_dropout=0.2"}},
    {"reference", {"device=reference"}},
    {"decoder_only", {}, kDecoderConfig},
    {"adafactor", {"optimizer.type=adafactor", "moe.capacity.priority=random"}},
    {"rerouted", {"moe.capacity.overflow=reroute", "moe.wire_dtype=bfloat16"}},
    {"dropless",
     {"moe.capacity.overflow=dropless", "moe.capacity.max_tokens_per_round=64",
      "train.recompute=blocks"}},
};
INSTANTIATE_TEST_SUITE_P(All, OrderedLayouts, testing::ValuesIn(kSettings),
                         [](const auto& tested) { return tested.param.name; });

// Otherwise the equality above would say nothing.
TEST(OrderedReduction, FastSumsDifferBetweenLayouts) {
  Bits one, three;
  run({"one", 1, 1, {"train.reduction=fast"}}, one);
  run({"three", 3, 3, {"train.reduction=fast"}}, three);
  EXPECT_FALSE(one == three);
}

}  // namespace
}  // namespace switchyard::test
