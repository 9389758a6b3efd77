// Weights and the state of every optimizer from one layout's checkpoint to another's, bit by bit.
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

// Everything random is on, and ordered sums.
constexpr const char* kOrderedConfig = R"(
name: pairs
seed: 7
device: cpu
model: {d_model: 16, d_kv: 8, d_ff: 24, heads: 2, encoder_layers: 1,
        decoder_layers: 1, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  capacity: {train_factor: 1.0, min_tokens: 1, priority: random}
  encoder: {layers: all, router: {type: switch, jitter: 0.05}}
  decoder: {layers: all, router: {type: switch, jitter: 0.05}}
train: {steps: 30, batch_sequences: 16, reduction: ordered}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";
constexpr int64_t kBefore = 3, kAfter = 20;

struct OrderedLayout {
  int ranks, expert_group;
  bool sharded;  // the optimizer's state

  std::string text() const {
    return std::to_string(ranks) + "x" + std::to_string(expert_group) + (sharded ? " sharded" : "");
  }
};
constexpr OrderedLayout kOrderedLayouts[] = {{1, 1, false}, {2, 1, true}, {2, 2, false},
                                             {3, 1, true},  {4, 2, true}, {4, 4, false},
                                             {8, 2, false}, {8, 4, true}};

struct Course {
  TensorsByName begin, end;
  std::vector<double> losses;
};

// Goes on from what the directory has, if anything, for so many steps; then saves if asked.
Course go_on(const OrderedLayout& layout, const std::filesystem::path& directory, int64_t steps,
             bool saves) {
  Snapshot begin, end;
  Course course;
  run_threaded_ranks(layout.ranks, [&](Collectives& world) {
    const Config config =
        parse_config(kOrderedConfig, "pairs.yaml",
                     {"parallel.expert=" + std::to_string(layout.expert_group),
                      std::string("optimizer.shard=") + (layout.sharded ? "true" : "false")},
                     choice_tables());
    const RandomSource source(11, 7, 128);
    RunParts parts(config, 128, world, 1);
    RunCheckpoints checkpoints(
        {.directory = directory, .run_id = "pairs", .seed = 7, .batch_sequences = 16},
        parts.weights, *parts.optimizer, parts.groups);
    const Progress progress = checkpoints.start();
    begin.add(parts);
    TrainStep step(
        {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
        step_options(config, parts.layout));
    for (int64_t i = progress.steps; i < progress.steps + steps; ++i) {
      const double loss = step.run(i).loss;
      if (world.rank() == 0) course.losses.push_back(loss);
    }
    if (saves) checkpoints.save({.steps = progress.steps + steps, .target_tokens = 1});
    end.add(parts);
  });
  course.begin = begin.tensors();
  course.end = end.tensors();
  return course;
}

// 64 ordered pairs of layouts.
TEST(OrderedCheckpoints, OfEveryLayoutGoOnInEveryOtherWithTheSameBits) {
  const TemporaryDirectory none;
  const OrderedLayout one{1, 1, false};
  const TensorsByName saved = go_on(one, none.path(), kBefore, false).end;
  const Course whole = go_on(one, none.path(), kBefore + kAfter, false);
  EXPECT_NE(whole.end, saved);
  const std::vector<double> losses(whole.losses.begin() + kBefore, whole.losses.end());
  for (const OrderedLayout& from : kOrderedLayouts) {
    const TemporaryDirectory directory;
    go_on(from, directory.path(), kBefore, true);
    for (const OrderedLayout& to : kOrderedLayouts) {
      SCOPED_TRACE(from.text() + " to " + to.text());
      const Course further = go_on(to, directory.path(), kAfter, false);
      EXPECT_TRUE(further.begin == saved);
      EXPECT_TRUE(further.end == whole.end);
      EXPECT_EQ(further.losses, losses);
    }
  }
}

}  // namespace
}  // namespace switchyard::test
