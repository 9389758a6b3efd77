// The verbs on checkpoints, on those of a small run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class CheckpointVerbs : public testing::Test {
 protected:
  static constexpr const char* kFirst = "runs/small/checkpoints/step-00000003";
  static constexpr const char* kLast = "runs/small/checkpoints/step-00000006";

  CheckpointVerbs() {
    program_.build_dataset();
    EXPECT_EQ(program_.run("train small.yaml").exit_code, 0);
  }
  // The output of a verb that must end so.
  std::string out(const std::string& arguments, int exit_code = 0) const {
    const Outcome outcome = program_.run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.out << outcome.err;
    return outcome.out;
  }

  Program program_;
};

TEST_F(CheckpointVerbs, TellWhatARunHasKept) {
  std::filesystem::create_directories(
      program_.path("runs/small/checkpoints/step-00000009.writing-small"));
  for (const char* directory : {"runs/small", "runs/small/checkpoints"}) {
    EXPECT_THAT(
        out(std::string("checkpoint list ") + directory),
        AllOf(HasSubstr("  step-00000003  "), HasSubstr("step 6, "), HasSubstr("layout 1x1"),
              HasSubstr("step-00000009.writing-small        0 B  unfinished")));
  }
  EXPECT_THAT(out("checkpoint show runs/small"),
              AllOf(HasSubstr(std::string("checkpoint ") + kLast), HasSubstr("step 6, "),
                    HasSubstr("config.yaml"), HasSubstr("encoder.block.1.moe.expert.3.wi "),
                    HasSubstr("F32   [384, 16]  model-00001-of-00001.safetensors"),
                    HasSubstr("/adamw.first")));
  EXPECT_THAT(out(std::string("checkpoint diff ") + kLast + " runs/small"),
              HasSubstr("tensors equal, 0 differ, 0 on one side"));
  EXPECT_THAT(out(std::string("checkpoint diff ") + kFirst + " " + kLast, 9),
              AllOf(HasSubstr("A runs/small/checkpoints/step-00000003: step 3"),
                    HasSubstr("shared_embedding: "), HasSubstr("; first at [")));
  out("checkpoint list text", 4);
  out("checkpoint show none", 4);
}

TEST_F(CheckpointVerbs, AverageIsACheckpointToGoOnFrom) {
  out(std::string("average ") + kFirst + " " + kLast + " --to runs/mean/checkpoints/best");
  EXPECT_THAT(out("checkpoint verify runs/mean/checkpoints/best"), HasSubstr("whole"));
  EXPECT_THAT(out("eval small.yaml --from runs/mean/checkpoints/best"),
              HasSubstr("evaluation at step 6: loss "));
  out("generate runs/mean/checkpoints/best --prompt abc --max-tokens 4");
  EXPECT_THAT(out("train small.yaml --from runs/mean/checkpoints/best --set name=next "
                  "--set train.steps=1"),
              HasSubstr("starting from the weights of runs/mean/checkpoints/best"));
  out(std::string("average ") + kFirst + " --to " + kLast, 4);
  out(std::string("average ") + kFirst, 2);
}

// What is named by mistake is told apart, in three lines at most.
TEST_F(CheckpointVerbs, SayWhatStandsThereInstead) {
  const auto refusal = [&](const std::string& arguments) {
    const Outcome outcome = program_.run(arguments);
    EXPECT_EQ(outcome.exit_code, 4) << arguments;
    const size_t error = outcome.err.find("error: ");
    EXPECT_NE(error, std::string::npos) << outcome.err;
    const std::string said = outcome.err.substr(std::min(error, outcome.err.size()));
    EXPECT_LE(std::ranges::count(said, '\n'), 3) << said;
    return said;
  };
  const std::string file = std::string(kLast) + "/config.yaml", is_file = "it is a file, not the ";
  for (const char* verb : {"checkpoint list ", "checkpoint verify ", "checkpoint show ",
                           "train small.yaml --set name=next --from ", "average --to mean "}) {
    EXPECT_THAT(refusal(verb + file), HasSubstr(is_file)) << verb;
  }
  EXPECT_THAT(refusal("checkpoint prune --keep 1 " + file), HasSubstr(is_file));
  for (const char* verb : {"checkpoint list ", "checkpoint prune --keep 1 "}) {
    EXPECT_THAT(refusal(std::string(verb) + kLast),
                HasSubstr("it is a checkpoint, not the folder of a run"));
  }
  EXPECT_THAT(refusal("checkpoint show none"), HasSubstr("the folder doesn't exist"));
  EXPECT_THAT(refusal("checkpoint show text"), HasSubstr("error: there is no checkpoint\n"));
  std::filesystem::create_directories(program_.path("theirs"));
  program_.write("theirs/model.safetensors", "");
  EXPECT_THAT(refusal("convert --to ours --from theirs"), HasSubstr("neither manifest.pb"));
  program_.write("theirs/config.json", "{}");
  EXPECT_THAT(refusal("train small.yaml --set name=next --from theirs"),
              AllOf(HasSubstr("it is a model of Hugging Face, not a checkpoint"),
                    HasSubstr("convert --from theirs --to DIR")));
  const Outcome asked = program_.run("generate theirs --prompt a");
  EXPECT_EQ(asked.exit_code, 2);
  EXPECT_THAT(asked.err, HasSubstr("convert --from theirs --to DIR"));
}

TEST_F(CheckpointVerbs, ListAndVerifyNameOneWhoseManifestHasGone) {
  std::filesystem::remove(program_.path(std::string(kLast) + "/manifest.pb"));
  EXPECT_THAT(out("checkpoint list runs/small"),
              AllOf(HasSubstr("step-00000003  "), HasSubstr("damaged: there is no manifest.pb")));
  EXPECT_THAT(out("checkpoint verify runs/small", 4),
              HasSubstr(std::string(kLast) + ": not a checkpoint: there is no manifest.pb"));
}

TEST_F(CheckpointVerbs, VerifyNamesDamageAndPruneRemovesTheOld) {
  EXPECT_THAT(out("checkpoint verify runs/small"),
              AllOf(HasSubstr("step-00000003: "), HasSubstr("step-00000006: ")));
  const std::string file = std::string(kLast) + "/model-00001-of-00001.safetensors";
  std::string bytes = program_.read(file);
  bytes[bytes.size() - 1] ^= 1;
  program_.write(file, bytes);
  const Outcome damaged = program_.run("checkpoint verify runs/small");
  EXPECT_EQ(damaged.exit_code, 4);
  EXPECT_THAT(damaged.out, AllOf(HasSubstr("1 damaged"),
                                 HasSubstr("model-00001-of-00001.safetensors: the file is damaged"),
                                 HasSubstr(", in tensor \"")));
  EXPECT_THAT(damaged.err, HasSubstr("1 of 2 checkpoints are damaged"));
  out(std::string("checkpoint verify ") + kFirst);
  out(std::string("checkpoint diff ") + kFirst + " " + kLast, 4);

  EXPECT_THAT(out("checkpoint prune runs/small --keep 1 --dry-run"),
              AllOf(HasSubstr(std::string("would remove ") + kFirst), HasSubstr("1 stay")));
  EXPECT_THAT(out("checkpoint prune runs/small --keep 1 --keep-every 3"), HasSubstr("2 stay"));
  EXPECT_THAT(out("checkpoint list runs/small"), HasSubstr("step-00000003"));
  EXPECT_THAT(out("checkpoint prune runs/small --keep 1"), HasSubstr("removed"));
  EXPECT_THAT(out("checkpoint list runs/small"),
              AllOf(Not(HasSubstr("step-00000003")), HasSubstr("step-00000006")));
  out("checkpoint prune runs/small", 2);
  out("checkpoint prune runs/small --keep 0", 2);
}

}  // namespace
}  // namespace switchyard::test
