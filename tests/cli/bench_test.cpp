// `bench` and `train --profile` as a user starts them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kDecoder = R"(name: decoder
model: {type: decoder_lm, d_model: 16, d_ff: 24, heads: 2, layers: 2}
data: {task: causal, length: 32}
moe: {experts: 4, group_sequences: 2, layers: all, router: {type: top_k}}
train: {batch_sequences: 4}
parallel: {threads: 1}
)";

TEST(Bench, PrintsOneJsonObjectWithoutAnyDataset) {
  const Program program;
  program.write("decoder.yaml", kDecoder);
  for (const char* config : {"small.yaml", "decoder.yaml"}) {
    const Outcome outcome =
        program.run(std::string("bench ") + config + " --steps 3 --warmup 1 --json");
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const nlohmann::json result = nlohmann::json::parse(outcome.out);
    const double least = result["step_seconds"]["min"], median = result["step_seconds"]["median"];
    EXPECT_GT(least, 0);
    EXPECT_LE(least, median);
    EXPECT_NEAR(result["tokens_per_second"], result["tokens_per_step"].get<double>() / median,
                1e-6 / median);
    EXPECT_GT(result["optimizer_seconds"], 0);
    EXPECT_GT(result["forward_backward_seconds"], 0);
    EXPECT_GT(result["flops_per_step"], 0);
    EXPECT_GT(result["limit"]["flops"], 1e8);
    EXPECT_GT(result["limit"]["bytes_per_second"], 1e8);
    EXPECT_EQ(result["rows_by_rank"].size(), 1u);
    EXPECT_EQ(result["vocabulary"], 8192);
    EXPECT_GT(result["phases"]["experts"], 0);
    EXPECT_TRUE(result["phases"].contains("other"));
  }
}

TEST(Bench, SaysTheSameInWords) {
  const Program program;
  const Outcome outcome = program.run(
      "bench small.yaml --steps 2 --warmup 0 --set model.vocabulary=512 --optimizer-excluded");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("vocabulary 512"));
  EXPECT_THAT(outcome.out, HasSubstr("tokens/s"));
  EXPECT_THAT(outcome.out, HasSubstr("time by phase: 2 steps of "));
  EXPECT_THAT(outcome.out, HasSubstr("  experts  "));
  EXPECT_THAT(outcome.out, Not(HasSubstr("  optimizer  ")));
}

TEST(Bench, HasNoLimitForAnUnmeasuredDevice) {
  const Program program;
  const Outcome outcome = program.run(
      "bench small.yaml --steps 1 --warmup 0 --json --set device=reference --set "
      "model.vocabulary=384");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(nlohmann::json::parse(outcome.out)["limit"].is_null());
}

TEST(Bench, StandsInTheHelp) {
  const Program program;
  for (const char* help : {"--help", "help"}) {
    EXPECT_THAT(program.run(help).out, HasSubstr("Time whole training steps of a config"));
  }
}

TEST(Bench, RefusesWhatItCannotDo) {
  const Program program;
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {"small.yaml --steps 0", "--steps 0: there is nothing to time"},
           {"small.yaml --steps ten", "--steps ten is no number"},
           {"small.yaml --warmup -1", "--warmup"},
           {"none.yaml", "none.yaml"},
           {"small.yaml --set moe.expert=2", "did you mean 'experts'?"}}) {
    const Outcome outcome = program.run("bench " + arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
}

TEST(Profile, OfATrainingRunIsPrintedAndTraced) {
  const Program program;
  program.build_dataset();
  const Outcome outcome = program.run("train small.yaml --profile");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("time by phase: 6 steps of "));
  EXPECT_THAT(outcome.out, HasSubstr("  evaluation  "));
  EXPECT_THAT(outcome.out, HasSubstr("  checkpoint  "));
  EXPECT_THAT(outcome.out, HasSubstr("trace: runs/small/trace.json"));
  EXPECT_THAT(program.read("runs/small/report.html"), HasSubstr("<h3>Time by phase</h3>"));
  const nlohmann::json trace = nlohmann::json::parse(program.read("runs/small/trace.json"));
  int steps = 0;
  for (const nlohmann::json& event : trace["traceEvents"]) steps += event["name"] == "step";
  EXPECT_EQ(steps, 6);
  const auto lines = program.metrics();
  EXPECT_EQ(lines.back()["profile.steps"], 6);
  EXPECT_GT(lines.back()["profile.accounted"], 0.9);  // other programs may hold it up anywhere

  const Outcome complete = program.run("train small.yaml --profile");
  EXPECT_EQ(complete.exit_code, 0) << complete.err;
  EXPECT_THAT(complete.out, Not(HasSubstr("time by phase")));
}

}  // namespace
}  // namespace switchyard::test
