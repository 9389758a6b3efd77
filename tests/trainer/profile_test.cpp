// Where a step's time goes, on one rank and on threads as ranks: nearly all of it is in a phase,
// and the spans of the trace lie inside each other.
#include "trainer/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "collectives/threaded.h"
#include "data/random_tokens.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "support/temporary_directory.h"
#include "trainer/benchmark.h"

namespace switchyard::test {
namespace {

constexpr const char* kSwitch = R"(
name: profiled
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2, decoder_layers: 2}
moe:
  experts: 4
  group_sequences: 2
  encoder: {layers: {every: 2}, router: {type: switch}}
  decoder: {layers: {every: 2}, router: {type: switch}}
train: {steps: 8, batch_sequences: 8, micro_batches: 2}
optimizer: {type: adamw}
)";
constexpr const char* kDecoder = R"(
name: profiled
device: cpu
model: {type: decoder_lm, d_model: 24, d_ff: 20, heads: 4, kv_heads: 2, layers: 2}
data: {task: causal}
moe: {experts: 4, group_sequences: 2, layers: all, router: {type: top_k}}
train: {steps: 8, batch_sequences: 8}
optimizer: {type: adamw}
)";
constexpr int64_t kSteps = 3;

// Of this thread, which computes all of its rank: other programs don't move it.
int64_t processor_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct Case {
  const char* name;
  const char* config;
  int ranks;
};

class Profiled : public testing::TestWithParam<Case> {
 protected:
  // The benchmark on every rank; `body` is given each rank's result and tracer.
  template <typename Body>
  void run(const BenchmarkOptions& options, const Body& body) {
    run_threaded_ranks(GetParam().ranks, [&](Collectives& world) {
      const Config config = parse_config(GetParam().config, "profiled.yaml", {}, choice_tables());
      RunParts parts(config, 128, world, 1);
      const RandomTokens source({.causal = config.model.is_decoder_only(),
                                 .inputs_width = 16,
                                 .targets_width = 16,
                                 .vocabulary = 128});
      Tracer tracer(10'000, processor_nanoseconds);
      TrainStep::Options choices = step_options(config, parts.layout);
      choices.tracer = &tracer;
      TrainStep step(
          {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
          choices);
      body(run_benchmark(step, *parts.model, world, tracer, options), tracer, world);
    });
  }
};

TEST_P(Profiled, PhasesAccountForTheStep) {
  run({.warmup = 1, .steps = kSteps},
      [&](const BenchmarkResult& result, const Tracer&, const Collectives& world) {
        const ProfileRecord& profile = result.profile;
        EXPECT_EQ(profile.steps, kSteps);
        EXPECT_EQ(profile.ranks, world.size());
        EXPECT_GE(profile.accounted, 0.95);
        double sum = 0;
        for (const PhaseRecord& phase : profile.phases) {
          sum += phase.seconds;
          EXPECT_LE(phase.least, phase.seconds + 1e-12) << phase.name;
          EXPECT_GE(phase.most, phase.seconds - 1e-12) << phase.name;
          const bool outside = phase.name == "evaluation" || phase.name == "checkpoint";
          EXPECT_EQ(phase.seconds == 0, outside) << phase.name;
        }
        EXPECT_NEAR(sum, profile.step_seconds, 1e-9);
      });
}

TEST_P(Profiled, ResultsAreOfTheTimedSteps) {
  run({.warmup = 2, .steps = kSteps},
      [&](const BenchmarkResult& result, const Tracer&, const Collectives& world) {
        ASSERT_EQ(result.step_seconds.size(), size_t{kSteps});
        for (size_t i = 0; i < size_t{kSteps}; ++i) {
          EXPECT_GT(result.optimizer_seconds[i], 0);
          EXPECT_GT(result.forward_backward_seconds[i], 0);
          EXPECT_GE(result.step_seconds[i], result.forward_backward_seconds[i]);
        }
        // 8 sequences of 16 inputs and 16 targets, or of 16 tokens, none of them padding.
        const bool decoder = GetParam().config == kDecoder;
        EXPECT_EQ(result.tokens_per_step, decoder ? 8 * 16 : 8 * 32);
        EXPECT_GT(result.flops_per_step, 0);
        ASSERT_EQ(result.rows_by_rank.size(), static_cast<size_t>(world.size()));
        EXPECT_GE(result.load_imbalance(), 1.0);
        double rows = 0;
        for (const double of_rank : result.rows_by_rank) rows += of_rank;
        // Two choices of each token in both layers; with `switch` one, and some are dropped.
        if (decoder) {
          EXPECT_LE(rows, 2 * 2 * 128);
        } else {
          EXPECT_LE(rows, 256);
        }
        EXPECT_GT(rows, 64);
      });
}

TEST_P(Profiled, WithoutTheOptimizerNothingIsUpdated) {
  run({.steps = 1, .with_optimizer = false},
      [&](const BenchmarkResult& result, const Tracer&, const Collectives&) {
        const std::vector<PhaseRecord>& phases = result.profile.phases;
        EXPECT_EQ(phases[static_cast<size_t>(Phase::kOptimizer)].most, 0);
        EXPECT_GT(phases[static_cast<size_t>(Phase::kBackward)].least, 0);
      });
}

TEST_P(Profiled, SpansOfTheTraceLieInsideEachOther) {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "trace.json";
  run({.steps = kSteps}, [&](const BenchmarkResult&, const Tracer& tracer, Collectives& world) {
    EXPECT_EQ(tracer.left_out(), 0);
    write_trace(world, tracer, path, "profiled");
  });
  std::ifstream file(path);
  std::map<int, std::vector<std::pair<double, double>>> open;  // of each rank: begin, end
  std::map<std::string, int> seen;
  const nlohmann::json trace = nlohmann::json::parse(file);
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++seen[event["name"]];
    auto& around = open[event["tid"]];
    const double begin = event["ts"], end = begin + event["dur"].get<double>();
    while (!around.empty() && around.back().second <= begin + 1e-6) around.pop_back();
    if (around.empty()) {
      EXPECT_EQ(event["name"], "step");
    } else {
      EXPECT_LE(end, around.back().second + 1e-6) << event;
    }
    around.emplace_back(begin, end);
  }
  EXPECT_EQ(open.size(), static_cast<size_t>(GetParam().ranks));
  EXPECT_EQ(seen["step"], kSteps * GetParam().ranks);
  for (const char* name : {"data", "forward", "routing", "exchange", "experts", "combine",
                           "backward", "reduce", "optimizer", "metrics", "block", "head"}) {
    EXPECT_GE(seen[name], kSteps * GetParam().ranks) << name;
  }
}

const Case kCases[] = {{"switch_on_one", kSwitch, 1},
                       {"switch_on_two", kSwitch, 2},
                       {"decoder_on_one", kDecoder, 1},
                       {"decoder_on_three", kDecoder, 3}};
INSTANTIATE_TEST_SUITE_P(All, Profiled, testing::ValuesIn(kCases),
                         [](const auto& tested) { return tested.param.name; });

TEST(Median, OfOddAndEvenNumbers) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

}  // namespace
}  // namespace switchyard::test
