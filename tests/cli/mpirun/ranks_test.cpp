// The program under mpirun: shards of experts, resuming in another layout, failing ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "cli/program.h"
#include "cli/screen.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

const std::string kMpirun =
    std::string(SWITCHYARD_MPIRUN) + " --oversubscribe --bind-to none --mca mpi_yield_when_idle 1";

TEST(Ranks, TwoRanksHoldHalfTheExpertsAndGiveTheLossesOfOne) {
  const Program one, two;
  one.build_dataset();
  two.build_dataset();
  ASSERT_EQ(one.run("train small.yaml").exit_code, 0);
  const Outcome trained = two.shell(kMpirun + " -np 2 $SWITCHYARD train small.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("rank 0: experts 0 to 1 of 4 in each of 2 MoE layers"));
  EXPECT_THAT(trained.out, HasSubstr("rank 1: experts 2 to 3 of 4 in each of 2 MoE layers"));
  EXPECT_THAT(trained.out, HasSubstr("rows exchanged"));
  EXPECT_EQ(two.metrics().front()["start.ranks"], 2);
  EXPECT_GT(two.metrics().at(1)["rows_exchanged"], 0);
  const std::vector<double> expected = one.losses(), seen = two.losses();
  ASSERT_EQ(seen.size(), expected.size());
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_NEAR(seen[i], expected[i], 1e-4) << i;
}

TEST(Ranks, AnotherLayoutReadsTheCheckpoint) {
  const Program program;
  program.build_dataset();
  ASSERT_EQ(program.shell(kMpirun + " -np 2 $SWITCHYARD train small.yaml").exit_code, 0);
  const auto line = [](const Outcome& outcome) {
    const size_t at = outcome.out.find("evaluation at step 6: loss ");
    return outcome.out.substr(at, 33);
  };
  const Outcome single = program.run("eval small.yaml");
  const Outcome three = program.shell(kMpirun + " -np 3 $SWITCHYARD eval small.yaml");
  ASSERT_EQ(single.exit_code, 0) << single.err;
  ASSERT_EQ(three.exit_code, 0) << three.err;
  EXPECT_EQ(line(single), line(three));

  // Five sequences in rounds of three ranks.
  std::string lines;
  for (int i = 2; i < 7; ++i) {
    lines += "{\"input_ids\": [9, " + std::to_string(i) + "], \"decoder_input_ids\": [0";
    for (int j = 0; j < i; ++j) lines += ", " + std::to_string(i + 7 * j);
    lines += "]}\n";
  }
  program.write("ids.jsonl", lines);
  const std::string logits = "logits --from runs/small --tokens ids.jsonl --to ";
  ASSERT_EQ(program.run(logits + "one.safetensors").exit_code, 0);
  const Outcome shared =
      program.shell(kMpirun + " -np 3 $SWITCHYARD " + logits + "three.safetensors");
  ASSERT_EQ(shared.exit_code, 0) << shared.err;
  EXPECT_THAT(shared.out, HasSubstr("three.safetensors: logits of 5 sequences over 384 ids"));
  EXPECT_EQ(program.read("one.safetensors"), program.read("three.safetensors"));
}

TEST(Ranks, VerifyTakesLayoutsFromTheRanksOfTheJob) {
  const Program program;
  program.build_dataset();
  const std::string verify = kMpirun + " -np 3 $SWITCHYARD verify small.yaml --steps 2 ";
  const Outcome agreeing =
      program.shell(verify + "--layouts 2x1,1,3 --set train.reduction=ordered");
  EXPECT_EQ(agreeing.exit_code, 0) << agreeing.err;
  EXPECT_THAT(agreeing.out, HasSubstr("all layouts agree with 2x1"));
  const Outcome wrong = program.shell(verify + "--layouts 2x1,3 --inject unreduced-router");
  EXPECT_EQ(wrong.exit_code, 9) << wrong.err;
  EXPECT_THAT(wrong.err, HasSubstr("layout 3 differs from 2x1: gradient of "));
  const Outcome large = program.shell(verify + "--layouts 1,4");
  EXPECT_EQ(large.exit_code, 2) << large.err;
  EXPECT_THAT(large.err, HasSubstr("layout 4 needs 4 ranks, there are 3"));
}

TEST(Ranks, BenchAndProfileHaveATrackForEach) {
  const Program program;
  program.build_dataset();
  const Outcome timed =
      program.shell(kMpirun + " -np 2 $SWITCHYARD bench small.yaml --steps 2 --warmup 1 --json");
  ASSERT_EQ(timed.exit_code, 0) << timed.err;
  const nlohmann::json result = nlohmann::json::parse(timed.out);
  EXPECT_EQ(result["ranks"], 2);
  ASSERT_EQ(result["rows_by_rank"].size(), 2u);
  EXPECT_GT(result["rows_by_rank"][0].get<double>() + result["rows_by_rank"][1].get<double>(), 0);
  EXPECT_GE(result["load_imbalance"], 1.0);

  const Outcome trained = program.shell(kMpirun + " -np 2 $SWITCHYARD train small.yaml --profile");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("time by phase: 6 steps of "));
  const nlohmann::json trace = nlohmann::json::parse(program.read("runs/small/trace.json"));
  std::vector<int> steps(2);
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["name"] == "step") ++steps.at(event["tid"]);
  }
  EXPECT_EQ(steps, (std::vector<int>{6, 6}));
}

TEST(Ranks, AGroupThatDoesNotDivideTheRanksIsRefused) {
  const Program program;
  program.build_dataset();
  const Outcome outcome =
      program.shell(kMpirun + " -np 4 $SWITCHYARD train small.yaml --set parallel.expert=3");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("error: parallel.expert = 3 does not divide the 4 ranks"));
  EXPECT_THAT(outcome.err, HasSubstr("use 1, 2 or 4, or start 3 or 6 ranks"));
}

// mpirun hands SIGUSR1 on to its ranks.
TEST(Ranks, ASignalEndsTheJobAfterACheckpointAndItGoesOn) {
  const Program whole, stopped;
  whole.build_dataset();
  stopped.build_dataset();
  const std::string train =
      kMpirun + " -q -np 2 $SWITCHYARD train small.yaml --set train.evaluate_every=none ";
  const Outcome outcome =
      stopped.shell(train + "--set train.steps=100000 --set checkpoint.async=true & job=$!; " +
                    kUntilTrained + "kill -USR1 $job; wait $job");
  EXPECT_EQ(outcome.exit_code, 7) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("stopped by SIGUSR1 after step "));
  const std::vector<double> before = stopped.losses();
  const std::string last = std::to_string(before.size()), all = std::to_string(before.size() + 2);
  EXPECT_THAT(outcome.out,
              HasSubstr("checkpoints/step-" + std::string(8 - last.size(), '0') + last));
  ASSERT_EQ(stopped.shell(train + "--set train.steps=" + all).exit_code, 0);
  ASSERT_EQ(whole.shell(train + "--set train.steps=" + all).exit_code, 0);
  EXPECT_EQ(stopped.losses(), whole.losses());
}

int processes_in(const std::filesystem::path& directory) {
  int processes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::error_code error;
    processes += std::filesystem::equivalent(entry.path() / "cwd", directory, error);
  }
  return processes;
}

// Whether all that ran there has ended within three seconds.
bool all_end_in(const std::filesystem::path& directory) {
  for (int i = 0; i < 60 && processes_in(directory) > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return processes_in(directory) == 0;
}

// The step of the newest checkpoint, which is whole like all others; 0 if there is none. What the
// kill left unfinished is listed too, without a step.
int64_t newest_whole_step(const Program& program) {
  const Outcome verified = program.run("checkpoint verify runs/small");
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
  const std::string listed = program.run("checkpoint list runs/small").out;
  const std::string of_a_whole_one = "  step ";
  const size_t last = listed.rfind(of_a_whole_one);
  return last == std::string::npos ? 0 : std::stoll(listed.substr(last + of_a_whole_one.size()));
}

// mpirun hands SIGTERM on to its ranks and kills them a second later. That is enough for a small
// model's checkpoint; where it isn't, the one before is there.
TEST(Ranks, SigtermToMpirunLeavesAWholeCheckpointAndNoProcess) {
  const Program whole, stopped;
  whole.build_dataset();
  stopped.build_dataset();
  const std::string train =
      kMpirun + " -q -np 2 $SWITCHYARD train small.yaml --set train.evaluate_every=none ";
  ASSERT_GT(processes_in(std::filesystem::current_path()), 0) << "this one at least";
  size_t made = 0;
  for (const bool async : {false, true, false}) {
    const std::string until = "until [ \"$(cat runs/small/metrics.jsonl | wc -l)\" -gt " +
                              std::to_string(stopped.metrics().size() + 20) +
                              " ]; do sleep 0.02; done 2> /dev/null; ";
    const Outcome outcome = stopped.shell(
        train + "--set train.steps=100000 --set checkpoint.async=" + (async ? "true" : "false") +
        " & job=$!; " + until + "kill -TERM $job; wait $job");
    EXPECT_NE(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(all_end_in(stopped.path("")));
    const auto reached = static_cast<int64_t>(stopped.losses().size());
    const int64_t saved = newest_whole_step(stopped);
    EXPECT_GT(reached, static_cast<int64_t>(made));
    EXPECT_LE(saved, reached);
    // A checkpoint every three steps; one more may be under way behind the training.
    EXPECT_LT(reached - saved, async ? 6 : 3) << outcome.out;
    const std::string said = "stopped by SIGTERM after step ";
    if (const size_t at = outcome.out.find(said); at != std::string::npos) {
      EXPECT_EQ(std::stoll(outcome.out.substr(at + said.size())), saved) << outcome.out;
    }
    made = static_cast<size_t>(saved);
    const Outcome resumed = stopped.shell(train + "--set train.steps=" + std::to_string(made + 1));
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("resuming after step " + std::to_string(made) + " from"));
  }
  ASSERT_EQ(whole.shell(train + "--set train.steps=" + std::to_string(made + 1)).exit_code, 0);
  EXPECT_EQ(stopped.losses(), whole.losses());
}

// Rank 1 reads another config, whose dataset isn't there.
TEST(Ranks, AFailingRankEndsTheJobAndIsNamed) {
  const Program program;
  program.build_dataset();
  program.write_config_with("torn.yaml", "dir: dataset", "dir: gone");
  const Outcome outcome = program.shell(kMpirun + " -np 1 $SWITCHYARD train small.yaml : -np 1 " +
                                        "$SWITCHYARD train torn.yaml");
  EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
  EXPECT_LT(outcome.seconds, 20.0);
  EXPECT_THAT(outcome.err, HasSubstr("gone"));
  EXPECT_THAT(outcome.err, HasSubstr("rank 1 of 2"));
  const std::string printed = "error: ";
  const size_t first = outcome.err.find(printed);
  EXPECT_EQ(outcome.err.find(printed, first + 1), std::string::npos) << outcome.err;
}

// mpirun gives its ranks pseudo-terminals wherever its own output goes.
TEST(Ranks, TheBarIsForTerminalsAndEveryRankHasALogFile) {
  const Program program;
  program.build_dataset();
  const std::string train = kMpirun + " -np 2 $SWITCHYARD train small.yaml";
  const Outcome piped = program.shell(train);
  ASSERT_EQ(piped.exit_code, 0) << piped.err;
  EXPECT_EQ((piped.out + piped.err).find_first_of("\r\x1b"), std::string::npos) << piped.out;
  for (const char* rank : {"0", "1"}) {
    const std::string log = program.read(std::string("runs/small/logs/rank-0000") + rank + ".log");
    EXPECT_THAT(log, HasSubstr(std::string("rank ") + rank + " of 2 on host "));
    EXPECT_THAT(log, HasSubstr("checkpoint runs/small/checkpoints/step-00000006"));
  }

  const Outcome watched =
      program.on_terminal("rm -rf runs && " + train + " --set train.steps=2", 90);
  ASSERT_EQ(watched.exit_code, 0) << watched.out;
  int bars = 0;
  for (const std::string& row : Screen(watched.out).overwritten) {
    EXPECT_LT(row.size(), 90u) << row;
    bars += row.find("]  1/2  loss ") != std::string::npos;
  }
  EXPECT_GE(bars, 1) << watched.out;
}

TEST(Ranks, AWarningOfAnotherRankIsSaidOnceWithRankAndHost) {
  const Program program;
  program.build_dataset();
  const Outcome outcome = program.shell("mkdir -p runs/small/logs/rank-00001.log; " + kMpirun +
                                        " -np 3 $SWITCHYARD train small.yaml");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string warning = "warning: [rank 1 host ";
  const size_t first = outcome.err.find(warning);
  ASSERT_NE(first, std::string::npos) << outcome.err;
  EXPECT_THAT(outcome.err.substr(first), HasSubstr("] no log file for this rank: "));
  EXPECT_EQ(outcome.err.find("warning: ", first + 1), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace switchyard::test
