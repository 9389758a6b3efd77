// A run that breaks off and is started again ends with the same bits as one that never stopped.
#include <gtest/gtest.h>

#include <cstring>
#include <mutex>

#include "collectives/threaded.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "support/temporary_directory.h"
#include "trainer/trainer.h"

namespace switchyard::test {
namespace {

constexpr int64_t kBreaksAt = 17, kLost = 2;

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
        evaluation_sequences: 16, checkpoint_every: 17}
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

// Trains on this rank until the end, or until `last` steps are done.
Ending train(const std::vector<std::string>& overrides, const std::filesystem::path& directory,
             Collectives& world, int64_t last) {
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
  RunCheckpoints checkpoints(
      {.directory = directory, .run_id = "resumed", .seed = 7, .batch_sequences = 16},
      parts.weights, *parts.optimizer, parts.groups);
  Recorder recorder(last);  // on every rank, so that all break off together
  Trainer trainer(step, evaluator, checkpoints, {&recorder},
                  {.steps = config.train.steps,
                   .evaluate_every = config.train.evaluate_every,
                   .checkpoint_every = config.train.checkpoint_every});
  try {
    trainer.run();
  } catch (const Broken&) {
  }
  Ending ending{.losses = recorder.losses, .dropped = recorder.dropped};
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
    EXPECT_EQ(second.losses.upper_bound(0)->first, kBreaksAt + 1);
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
  all.push_back({"sharded_on_4", 4, {"optimizer.shard=true", "parallel.expert=2"}});
  all.push_back({"adafactor_on_3", 3, {"optimizer={type: adafactor, min_size_to_factor: 8}"}});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Resume, testing::ValuesIn(cases()),
                         [](const auto& tested) { return tested.param.name; });

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
