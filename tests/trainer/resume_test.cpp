// A run that breaks off and is started again ends with the same bits as one that never stopped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <mutex>

#include "checkpoint/directory.h"
#include "collectives/threaded.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "support/temporary_directory.h"
#include "trainer/trainer.h"

namespace switchyard::test {
namespace {

constexpr int64_t kSteps = 22, kBreaksAt = 17, kLost = 2;

// Everything random is on: dropout, in experts too, jitter, and capacity that drops anyone.
constexpr const char* kConfig = R"(
name: resumed
seed: 7
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  capacity: {train_factor: 1.0, min_tokens: 1, priority: random}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 22, batch_sequences: 16, micro_batches: 2, evaluate_every: none,
        evaluation_sequences: 16}
checkpoint: {every: 17}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";

struct Broken : std::exception {};

// The evaluator reads the whole of it for the unigram entropy.
class ShortSource : public RandomSource {
 public:
  ShortSource() : RandomSource(11, 7, 128) {}
  int64_t epoch_size() const override { return 16; }
};

// Keeps the losses by step, and breaks the run off after `last` steps.
class Recorder : public MetricSink {
 public:
  explicit Recorder(int64_t last) : last_(last) {}
  void step(const StepRecord& record) override {
    losses[record.step] = record.loss;
    dropped += record.dropped_share;
    if (record.step == last_) throw Broken();
  }
  void evaluation(const EvaluationRecord& record) override { losses[-1] = record.loss; }

  std::map<int64_t, double> losses;
  double dropped = 0;

 private:
  int64_t last_;
};

std::vector<char> bytes_of(TensorView view) {
  std::vector<char> bytes(view.size_bytes());
  std::memcpy(bytes.data(), view.raw(), bytes.size());
  return bytes;
}

// What a rank holds at the end, byte for byte, each expert by itself.
struct Ending {
  Trainer::Ending how{};
  std::map<int64_t, double> losses;
  double dropped = 0;
  std::map<std::string, std::vector<char>> tensors;

  void add(const Weight& weight, const std::string& suffix, TensorView view) {
    if (!weight.is_expert()) {
      tensors[weight.name() + suffix] = bytes_of(view);
      return;
    }
    for (int64_t i = 0; i < weight.experts().count; ++i) {
      tensors[weight.name_of_expert(i) + suffix] = bytes_of(view.rows(i, i + 1));
    }
  }
};

// Trains on this rank until the end, until `last` steps are done, or until a signal.
Ending train(
    const std::vector<std::string>& overrides, const std::filesystem::path& directory,
    Collectives& world, int64_t last, const std::function<int()>& signal = [] { return 0; }) {
  const Config config = parse_config(kConfig, "resumed.yaml", overrides, choice_tables());
  ShortSource source;
  RunParts parts(config, 128, world, 1);
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      step_options(config, parts.layout));
  Evaluator::Options evaluation{
      .layout = parts.layout,
      .sequences = 16,
      .ordered = config.train.reduction == TrainConfig::Reduction::kOrdered};
  evaluation.layout.micro_batches = 1;
  Evaluator evaluator(*parts.kernels, parts.groups, *parts.model, source, evaluation);
  RunCheckpoints checkpoints({.directory = directory,
                              .run_id = "resumed, in the test",
                              .keep = config.checkpoint.keep,
                              .async = config.checkpoint.async,
                              .fallback = config.checkpoint.fallback,
                              .seed = 7,
                              .batch_sequences = 16},
                             parts.weights, *parts.optimizer, parts.groups);
  Recorder recorder(last);  // on every rank, so that all break off together
  StopVote stop(world, signal);
  Trainer trainer(step, evaluator, checkpoints, {&recorder}, stop,
                  {.steps = config.train.steps,
                   .evaluate_every = config.train.evaluate_every,
                   .checkpoint_every = config.checkpoint.every});
  Ending ending;
  try {
    ending.how = trainer.run();
  } catch (const Broken&) {
  }
  ending.losses = recorder.losses;
  ending.dropped = recorder.dropped;
  for (const Weight* weight : parts.weights) ending.add(*weight, "", weight->master());
  for (const OptimizerState& state : parts.optimizer->states()) {
    ending.add(*state.weight, "/" + state.name, state.value);
  }
  return ending;
}

struct ResumeCase {
  std::string name;
  int ranks = 1;
  std::vector<std::string> overrides;
  int64_t every = kBreaksAt;  // steps between checkpoints
};
void PrintTo(const ResumeCase& resumed, std::ostream* out) { *out << resumed.name; }

class Resume : public testing::TestWithParam<ResumeCase> {};

TEST_P(Resume, EndsWithTheBitsOfAnUninterruptedRun) {
  const TemporaryDirectory whole, broken;
  run_threaded_ranks(GetParam().ranks, [&](Collectives& world) {
    const auto run = [&](const TemporaryDirectory& directory, int64_t last) {
      return train(GetParam().overrides, directory.path(), world, last);
    };
    const Ending expected = run(whole, -1);
    const Ending first = run(broken, kBreaksAt + kLost);
    EXPECT_EQ(first.losses.rbegin()->first, kBreaksAt + kLost);
    const Ending second = run(broken, -1);
    // Behind the training's back, the last checkpoint may not have been whole.
    const int64_t resumed_after = second.losses.upper_bound(0)->first - 1;
    EXPECT_GT(resumed_after, 0);
    EXPECT_EQ(resumed_after % GetParam().every, 0) << resumed_after;
    for (const auto& [step, loss] : second.losses)
      EXPECT_EQ(loss, expected.losses.at(step)) << step;
    EXPECT_EQ(second.tensors, expected.tensors) << "on rank " << world.rank();
    EXPECT_NE(first.tensors, expected.tensors);
    EXPECT_GT(expected.dropped, 0.0);
  });
}

std::vector<ResumeCase> cases() {
  std::vector<ResumeCase> all;
  for (const std::string precision : {"float32", "bfloat16"}) {
    for (const int ranks : {1, 2, 4}) {
      all.push_back(
          {precision + "_on_" + std::to_string(ranks), ranks, {"train.precision=" + precision}});
    }
  }
  all.push_back({"async_on_3", 3, {"checkpoint.async=true", "checkpoint.every=6"}, 6});
  all.push_back({"sharded_on_4", 4, {"optimizer.shard=true", "parallel.expert=2"}});
  all.push_back({"adafactor_on_3", 3, {"optimizer={type: adafactor, min_size_to_factor: 8}"}});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Resume, testing::ValuesIn(cases()),
                         [](const auto& tested) { return tested.param.name; });

// Signals reach one rank, and at any time: all stop after the same step, and what was asked for
// before the first step, in the middle or in the last evaluation is the same run in the end.
TEST(StoppedRun, IsSavedByAllRanksAndGoesOn) {
  for (const char* async : {"checkpoint.async=false", "checkpoint.async=true"}) {
    const TemporaryDirectory whole, stopped;
    run_threaded_ranks(3, [&](Collectives& world) {
      const std::vector<std::string> overrides{async, "checkpoint.every=5"};
      const Ending expected = train(overrides, whole.path(), world, -1);
      EXPECT_EQ(expected.how, Trainer::Ending::kComplete);
      std::map<int64_t, double> losses;
      Ending last;
      // How often rank 1 is asked before it says so: once before each step, then by the evaluation.
      for (const int quiet : {0, 3, 2, 5, 12}) {
        int asked = 0;
        last = train(overrides, stopped.path(), world, -1,
                     [&] { return world.rank() == 1 && asked++ >= quiet ? SIGUSR1 : 0; });
        EXPECT_EQ(last.how, Trainer::Ending::kStopped);
        EXPECT_EQ(last.losses.size(), static_cast<size_t>(quiet));
        losses.insert(last.losses.begin(), last.losses.end());
        world.barrier();
        const auto latest = latest_checkpoint(stopped.path());
        EXPECT_EQ(latest ? latest->step : 0, static_cast<int64_t>(losses.size()));
        world.barrier();
      }
      EXPECT_EQ(losses.size(), size_t{kSteps});
      EXPECT_EQ(last.tensors, expected.tensors);
      for (const auto& [step, loss] : losses) EXPECT_EQ(loss, expected.losses.at(step)) << step;
    });
  }
}

void damage(const std::filesystem::path& file) {
  std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(std::filesystem::file_size(file)) - 5);
  const auto byte = static_cast<char>(~out.peek());
  out.write(&byte, 1);
  ASSERT_TRUE(out);
}

TEST(DamagedCheckpoint, IsPassedOverByAllRanksIfTheConfigAllowsIt) {
  const TemporaryDirectory whole, broken;
  const std::vector<std::string> overrides{"checkpoint.every=5", "checkpoint.keep=2"};
  const auto run = [&](const TemporaryDirectory& directory, int64_t last, bool fallback) {
    std::mutex mutex;
    std::vector<Ending> endings;
    run_threaded_ranks(2, [&](Collectives& world) {
      std::vector<std::string> all = overrides;
      if (fallback) all.push_back("checkpoint.fallback=true");
      Ending ending = train(all, directory.path(), world, last);
      const std::lock_guard lock(mutex);
      endings.push_back(std::move(ending));
    });
    return endings;
  };
  const std::vector<Ending> expected = run(whole, -1, false);
  run(broken, 16, false);
  // Of the two that are left one has a flipped bit, and a third has lost its manifest.
  damage(broken.path() / step_name(15) / "model-00002-of-00002.safetensors");
  std::filesystem::create_directory(broken.path() / step_name(18));
  try {
    run(broken, -1, false);
    FAIL() << "went on from a damaged checkpoint";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("there is no manifest.pb"));
    EXPECT_THAT(error.advice(), testing::HasSubstr("checkpoint.fallback: true"));
    EXPECT_THAT(error.advice(), testing::HasSubstr("step-00000015"));
  }
  testing::internal::CaptureStdout();
  run(broken, 12, true);
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_THAT(said, testing::HasSubstr("step-00000018 is passed over: not a checkpoint"));
  EXPECT_THAT(said, testing::HasSubstr("step-00000015 is passed over: the file is damaged"));
  EXPECT_THAT(said, testing::HasSubstr("resuming after step 10"));
  EXPECT_TRUE(std::filesystem::exists(broken.path() / step_name(15)));

  const std::vector<Ending> second = run(broken, -1, true);
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(second[rank].losses.upper_bound(0)->first, 11);
    const bool same = second[rank].tensors == expected[0].tensors ||
                      second[rank].tensors == expected[1].tensors;  // they end in any order
    EXPECT_TRUE(same);
  }
  // The damaged one was replaced by a good one of its step and then removed as an old one.
  EXPECT_FALSE(std::filesystem::exists(broken.path() / step_name(15)));
  EXPECT_TRUE(std::filesystem::exists(broken.path() / step_name(18)));

  damage(broken.path() / step_name(20) / "manifest.pb");
  damage(broken.path() / step_name(22) / "optimizer-00001-of-00002.safetensors");
  std::filesystem::remove(broken.path() / step_name(18));
  try {
    run(broken, -1, true);
    FAIL() << "there was nothing left to go on from";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.advice(), testing::HasSubstr("no older checkpoint is left"));
  }
}

TEST(OrderedResume, GoesOnInAnotherLayoutWithTheBitsOfOneRank) {
  const TemporaryDirectory whole, broken;
  const auto run = [&](int ranks, const TemporaryDirectory& directory, int64_t last,
                       std::vector<std::string> overrides, const auto& check) {
    overrides.push_back("train.reduction=ordered");
    run_threaded_ranks(
        ranks, [&](Collectives& world) { check(train(overrides, directory.path(), world, last)); });
  };
  Ending expected;
  run(1, whole, -1, {}, [&](Ending ending) { expected = std::move(ending); });
  run(4, broken, kBreaksAt + kLost, {"optimizer.shard=true", "parallel.expert=2"},
      [](const Ending&) {});
  run(3, broken, -1, {"train.micro_batches=4"}, [&](const Ending& ending) {
    EXPECT_EQ(ending.losses.upper_bound(0)->first, kBreaksAt + 1);
    for (const auto& [step, loss] : ending.losses) EXPECT_EQ(loss, expected.losses.at(step));
    EXPECT_GT(ending.tensors.size(), 50u);
    for (const auto& [name, bytes] : ending.tensors) {
      EXPECT_EQ(bytes, expected.tensors.at(name)) << name;
    }
  });
}

}  // namespace
}  // namespace switchyard::test
