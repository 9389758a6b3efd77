// From text to an evaluated checkpoint, on one rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<nlohmann::json> with_key(const std::vector<nlohmann::json>& lines,
                                     const std::string& key) {
  std::vector<nlohmann::json> chosen;
  std::copy_if(lines.begin(), lines.end(), std::back_inserter(chosen),
               [&](const nlohmann::json& line) { return line.contains(key); });
  return chosen;
}

TEST(Training, FromTextToAnEvaluatedCheckpoint) {
  const Program program;
  program.build_dataset();
  const Outcome again = program.run("data build small.yaml");
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.out, HasSubstr("is up to date"));

  const Outcome trained = program.run("train small.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("rank 0: experts 0 to 3 of 4 in each of 2 MoE layers"));
  EXPECT_THAT(trained.out, HasSubstr("checkpoint runs/small/checkpoints/step-00000006"));

  const auto steps = with_key(program.metrics(), "loss");
  ASSERT_EQ(steps.size(), 6u);
  EXPECT_LT(steps.back()["loss"], steps.front()["loss"]);
  ASSERT_EQ(steps.back()["moe"].size(), 2u);
  const auto& layer = steps.back()["moe"][0];
  EXPECT_EQ(layer["name"], "encoder.block.1.moe");
  EXPECT_EQ(layer["load"].size(), 4u);
  const auto evaluations = with_key(program.metrics(), "validation.loss");
  ASSERT_EQ(evaluations.size(), 2u);
  EXPECT_TRUE(evaluations[0]["validation.labels"].contains("north"));
  EXPECT_GT(evaluations[0]["validation.unigram_entropy"], 0.0);
  const auto& by_label = evaluations[1]["validation.moe"][0]["load_by_label"];
  EXPECT_EQ(by_label["north"].size(), 4u);
  EXPECT_THAT(trained.out, HasSubstr("what experts took"));
  EXPECT_THAT(trained.out, HasSubstr("report: runs/small/report.html"));
  EXPECT_THAT(program.read("runs/small/report.html"),
              HasSubstr("encoder 1: what an expert prefers"));

  // The checkpoint evaluates to what the run saw at its end.
  const Outcome evaluated = program.run("eval small.yaml");
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
  char expected[64];
  std::snprintf(expected, sizeof expected, "evaluation at step 6: loss %.4f",
                evaluations[1]["validation.loss"].get<double>());
  EXPECT_THAT(evaluated.out, HasSubstr(expected));
  const Outcome shuffled = program.run("eval small.yaml --shuffle-inputs");
  EXPECT_THAT(shuffled.out, HasSubstr("encoder inputs shuffled"));
  EXPECT_THAT(shuffled.out, Not(HasSubstr(expected)));
}

TEST(Training, AResumedRunGoesOnAsIfNothingHadHappened) {
  const Program whole, broken;
  whole.build_dataset();
  broken.build_dataset();
  ASSERT_EQ(whole.run("train small.yaml").exit_code, 0);
  // The schedule is constant, so that a run of three steps is the first half of one of six.
  ASSERT_EQ(broken.run("train small.yaml --set train.steps=3").exit_code, 0);
  const Outcome resumed = broken.run("train small.yaml");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resuming after step 3 from runs/small/checkpoints/step-"));
  const auto expected = with_key(whole.metrics(), "loss"),
             seen = with_key(broken.metrics(), "loss");
  ASSERT_EQ(seen.size(), expected.size());
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i]["loss"], expected[i]["loss"]) << i;

  EXPECT_THAT(broken.read("runs/small/report.html"), HasSubstr("resumed 1 time."));
  const Outcome complete = broken.run("train small.yaml");
  EXPECT_EQ(complete.exit_code, 0);
  EXPECT_THAT(complete.out, HasSubstr("the run is complete: 6 of 6 steps"));
}

TEST(Training, StartsFromTheWeightsOfAnotherRun) {
  const Program program;
  program.build_dataset();
  ASSERT_EQ(program.run("train small.yaml").exit_code, 0);
  const auto before = with_key(program.metrics(), "validation.loss").back()["validation.loss"];
  // At a learning rate of 0 the new run ends where the other one did.
  const std::string tune =
      "train small.yaml --from runs/small --set name=tuned --set train.steps=1 --set "
      "schedule.learning_rate=0";
  const Outcome tuned = program.run(tune);
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  EXPECT_THAT(tuned.out, HasSubstr("starting from the weights of runs/small/checkpoints/step-"));
  char expected[64];
  std::snprintf(expected, sizeof expected, "evaluation at step 1: loss %.4f", before.get<double>());
  EXPECT_THAT(tuned.out, HasSubstr(expected));
  EXPECT_THAT(program.run(tune).out, HasSubstr("the run has a checkpoint of its own"));
}

TEST(Training, GoesOnInFloat32WhereBFloat16BrokeOff) {
  const Program program;
  program.build_dataset();
  const Outcome rounded =
      program.run("train small.yaml --set train.steps=3 --set train.precision=bfloat16");
  ASSERT_EQ(rounded.exit_code, 0) << rounded.err;
  const Outcome resumed = program.run("train small.yaml");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resuming after step 3"));
  const auto steps = with_key(program.metrics(), "loss");
  ASSERT_EQ(steps.size(), 6u);
  EXPECT_LT(steps.back()["loss"], steps.front()["loss"]);
}

TEST(Training, AReportThatCannotBeWrittenIsAnErrorLineAndCostsNothing) {
  const Program program;
  program.build_dataset();
  std::filesystem::create_directories(program.path("runs/small/report.html/in the way"));
  const Outcome trained = program.run("train small.yaml --set train.steps=3");
  EXPECT_EQ(trained.exit_code, 0);
  EXPECT_THAT(trained.err, HasSubstr("error: cannot write the report"));
  EXPECT_THAT(trained.out, HasSubstr("checkpoint runs/small/checkpoints/step-00000003"));
  std::filesystem::remove_all(program.path("runs/small/report.html"));
  const Outcome made = program.run("report runs/small");
  EXPECT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(made.out, "runs/small/report.html\n");
  EXPECT_THAT(program.read("runs/small/report.html"), HasSubstr("name: small"));
  EXPECT_EQ(program.run("report runs/none").exit_code, 3);
}

TEST(Training, EvaluatesADenseModel) {
  const Program program;
  program.build_dataset();
  program.write_config_with("dense.yaml", R"(moe:
  experts: 4
  group_sequences: 2
  encoder: {layers: {every: 2}, router: {type: switch}}
  decoder: {layers: {every: 2}, router: {type: switch}}
)",
                            "moe: {encoder: {layers: none}, decoder: {layers: none}}\n");
  const Outcome trained = program.run("train dense.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, Not(HasSubstr("experts")));
}

TEST(Program, ExplainsItself) {
  const Program program;
  EXPECT_THAT(program.run("version").out, HasSubstr("switchyard "));
  EXPECT_THAT(program.run("--help").out, HasSubstr("train"));
  EXPECT_THAT(program.run("train --help").out, HasSubstr("Example:"));
  EXPECT_THAT(program.run("help moe.capacity.train_factor").out, HasSubstr("1.25"));
  EXPECT_THAT(program.run("help").out, HasSubstr("moe.encoder.router.jitter"));
  const Outcome doctor = program.run("doctor");
  EXPECT_EQ(doctor.exit_code, 0);
  EXPECT_THAT(doctor.out, HasSubstr("device cpu"));
  EXPECT_THAT(doctor.out, HasSubstr("precisions: float32, bfloat16\n"));
}

}  // namespace
}  // namespace switchyard::test
