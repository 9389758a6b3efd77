// The state of every optimizer from one layout's checkpoint to another's, bit by bit.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <mutex>

#include "collectives/threaded.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "support/temporary_directory.h"
#include "trainer/run_checkpoints.h"
#include "trainer/train_step.h"

namespace switchyard::test {
namespace {

constexpr const char* kConfig = R"(
name: states
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  encoder: {layers: {every: 2}}
train: {steps: 3, batch_sequences: 16}
schedule: {type: constant, learning_rate: 0.01}
)";

struct Layout {
  int ranks, expert_group;
};

using TensorsByName = std::map<std::string, std::vector<char>>;

// Weights and state of a run under global names, each expert by itself.
class Snapshot {
 public:
  void add(const RunParts& parts) {
    const std::lock_guard lock(mutex_);
    for (const Weight* weight : parts.weights) add(*weight, "", weight->master());
    for (const OptimizerState& state : parts.optimizer->states()) {
      add(*state.weight, "/" + state.name, state.value);
    }
  }
  const TensorsByName& tensors() const { return tensors_; }

 private:
  void add(const Weight& weight, const std::string& suffix, TensorView view) {
    if (!weight.is_expert()) return keep(weight.name() + suffix, view);
    for (int64_t i = 0; i < weight.experts().count; ++i) {
      keep(weight.name_of_expert(i) + suffix, view.rows(i, i + 1));
    }
  }
  void keep(const std::string& name, TensorView view) {
    std::vector<char> bytes(view.size_bytes());
    std::memcpy(bytes.data(), view.raw(), bytes.size());
    const auto [found, is_new] = tensors_.try_emplace(name, bytes);
    EXPECT_TRUE(is_new || found->second == bytes) << name << " differs between its copies";
  }

  std::mutex mutex_;
  TensorsByName tensors_;
};

// Starts a run in the layout from what the directory has, trains `steps` steps and saves if asked.
TensorsByName run(const Layout& layout, const std::string& optimizer,
                  const std::filesystem::path& directory, int64_t steps) {
  Snapshot snapshot;
  run_threaded_ranks(layout.ranks, [&](Collectives& world) {
    const Config config = parse_config(
        kConfig, "states.yaml",
        {"optimizer=" + optimizer, "parallel.expert=" + std::to_string(layout.expert_group)},
        choice_tables());
    const RandomSource source(11, 7, 128);
    RunParts parts(config, 128, world, 1);
    RunCheckpoints checkpoints(
        {.directory = directory, .run_id = "states", .seed = 7, .batch_sequences = 16},
        parts.weights, *parts.optimizer, parts.groups);
    checkpoints.start();
    TrainStep step(
        {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
        {.layout = parts.layout, .seed = 7});
    for (int64_t i = 0; i < steps; ++i) step.run(i);
    if (steps > 0) checkpoints.save({.steps = steps, .target_tokens = 1});
    snapshot.add(parts);
  });
  return snapshot.tensors();
}

TEST(OptimizerCheckpoints, MoveBetweenLayouts) {
  // With 24 features and 40 inner ones some matrices are factored at 20 and some, at 30, are not.
  for (const char* optimizer :
       {"{type: adafactor, min_size_to_factor: 20}", "{type: adafactor, min_size_to_factor: 30}",
        "{type: sgd}", "{type: adamw}"}) {
    SCOPED_TRACE(optimizer);
    for (const Layout& from : {Layout{1, 1}, Layout{3, 3}, Layout{4, 2}}) {
      const TemporaryDirectory directory;
      const TensorsByName saved = run(from, optimizer, directory.path(), 3);
      for (const Layout& to : {Layout{1, 1}, Layout{2, 2}, Layout{3, 1}, Layout{6, 6}}) {
        EXPECT_EQ(run(to, optimizer, directory.path(), 0), saved)
            << from.ranks << "x" << from.expert_group << " to " << to.ranks << "x"
            << to.expert_group;
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::test
