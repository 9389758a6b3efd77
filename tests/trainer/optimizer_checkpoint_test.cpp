// The state of every optimizer from one layout's checkpoint to another's, bit by bit.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <mutex>
#include <set>

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
  int ranks, expert_group, slices = 1;

  std::string text() const {
    return std::to_string(ranks) + "x" + std::to_string(expert_group) + "x" +
           std::to_string(slices);
  }
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
    const auto whole = [](TensorView all) { return ElementRuns{1, all.elements(), 0, 0}; };
    if (!weight.is_expert()) return keep(weight.name() + suffix, view, whole(view));
    for (int64_t i = 0; i < weight.experts().count; ++i) {
      const TensorView one = view.rows(i, i + 1);
      keep(weight.name_of_expert(i) + suffix, one, weight.is_sliced() ? weight.runs() : whole(one));
    }
  }
  // Puts a slice into its place of the whole tensor; copies on other ranks must be equal.
  void keep(const std::string& name, TensorView view, const ElementRuns& runs) {
    const auto size = static_cast<int64_t>(size_of(view.dtype()));
    std::vector<char>& all = tensors_[name];
    const int64_t end = runs.first + (runs.count - 1) * runs.stride + runs.length;
    if (const auto bytes = static_cast<size_t>(end * size); all.size() < bytes) all.resize(bytes);
    const bool is_copy = !kept_.insert({name, runs.first}).second;
    const auto* from = static_cast<const char*>(view.raw());
    for (int64_t run = 0; run < runs.count; ++run, from += runs.length * size) {
      char* to = all.data() + (runs.first + run * runs.stride) * size;
      const auto bytes = static_cast<size_t>(runs.length * size);
      EXPECT_TRUE(!is_copy || std::memcmp(to, from, bytes) == 0)
          << name << " differs between its copies";
      std::memcpy(to, from, bytes);
    }
  }

  std::mutex mutex_;
  TensorsByName tensors_;
  std::set<std::pair<std::string, int64_t>> kept_;  // slices by name and first element
};

// Starts a run in the layout from what the directory has, trains `steps` steps and saves if asked.
TensorsByName run(const Layout& layout, const std::string& optimizer,
                  const std::filesystem::path& directory, int64_t steps) {
  Snapshot snapshot;
  run_threaded_ranks(layout.ranks, [&](Collectives& world) {
    const Config config = parse_config(
        kConfig, "states.yaml",
        {"optimizer=" + optimizer, "parallel.expert=" + std::to_string(layout.expert_group),
         "parallel.expert_tensor=" + std::to_string(layout.slices)},
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
    const bool sliced = std::string(optimizer).find("adafactor") == std::string::npos;
    std::vector<Layout> from_all{{1, 1}, {3, 3}, {4, 2}}, to_all{{1, 1}, {2, 2}, {3, 1}, {6, 6}};
    if (sliced) {
      from_all.push_back({4, 4, 2});
      to_all.push_back({4, 2, 2});
    }
    for (const Layout& from : from_all) {
      const TemporaryDirectory directory;
      const TensorsByName saved = run(from, optimizer, directory.path(), 3);
      for (const Layout& to : to_all) {
        EXPECT_EQ(run(to, optimizer, directory.path(), 0), saved)
            << from.text() << " to " << to.text();
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::test
