// What a user's mistakes lead to: three lines at most, the place, the exit code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

void expect_error(const Outcome& outcome, int exit_code, const std::string& what,
                  const std::string& where) {
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_THAT(outcome.err, StartsWith("error: "));
  EXPECT_THAT(outcome.err, HasSubstr(what));
  EXPECT_THAT(outcome.err, HasSubstr(where));
  EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 3) << outcome.err;
}

struct WrongConfig {
  const char* name;
  const char* what;  // text of the small config that is replaced
  const char* by;
  const char* message;
  const char* where;
};
void PrintTo(const WrongConfig& wrong, std::ostream* out) { *out << wrong.name; }

const WrongConfig kWrongConfigs[] = {
    {"misspelt_key", "d_model: 16", "d_modle: 16", "did you mean 'd_model'?", "wrong.yaml:4:3"},
    {"wrong_type", "experts: 4", "experts: four", "moe.experts", "wrong.yaml:12:12"},
    {"out_of_range", "validation_share: 0.2", "validation_share: 20", "data.validation_share",
     "wrong.yaml:20:21"},
    {"contradiction", "group_sequences: 2", "group_sequences: 3", "group_sequences",
     "wrong.yaml:26:20"},
    {"unknown_router", "router: {type: switch}", "router: {type: swich}", "switch",
     "wrong.yaml:14:48"},
    {"unknown_device", "device: cpu", "device: tpu",
     "device 'tpu' is not in this build; built: cpu, reference", "wrong.yaml:2:9"},
    {"vocabulary_too_small", "d_model: 16", "vocabulary: 128\n  d_model: 16", "vocabulary",
     "wrong.yaml:4:15"},
};

class WrongConfigs : public testing::TestWithParam<WrongConfig> {};

TEST_P(WrongConfigs, AreRefusedWithTheirPlace) {
  const WrongConfig& wrong = GetParam();
  const Program program;
  program.build_dataset();
  program.write_config_with("wrong.yaml", wrong.what, wrong.by);
  expect_error(program.run("train wrong.yaml"), 2, wrong.message, wrong.where);
}

INSTANTIATE_TEST_SUITE_P(Table, WrongConfigs, testing::ValuesIn(kWrongConfigs),
                         [](const auto& tested) { return tested.param.name; });

TEST(Errors, ArgumentsAndMissingFiles) {
  const Program program;
  expect_error(program.run("trian small.yaml"), 2, "did you mean 'train'?", "trian");
  expect_error(program.run("config shwo small.yaml"), 2, "did you mean 'show'?", "config shwo");
  expect_error(program.run("train"), 2, "CONFIG", "");
  expect_error(program.run("train none.yaml"), 2, "none.yaml", "");
  expect_error(program.run("train small.yaml --set train.step=5"), 2, "did you mean 'steps'?",
               "--set train.step=5");
  expect_error(program.run("help moe.experst"), 2, "experts", "");
}

TEST(Errors, AMissingOrTruncatedDatasetIsNamed) {
  const Program program;
  expect_error(program.run("train small.yaml"), 3, "data build", "dataset");
  program.build_dataset();
  const auto tokens = program.path("dataset/train.tokens");
  std::filesystem::resize_file(tokens, std::filesystem::file_size(tokens) - 8);
  expect_error(program.run("train small.yaml"), 3, "", "train.tokens");
}

TEST(Errors, AChangedTokenIsNamedAndBuildingMendsIt) {
  const Program program;
  program.build_dataset();
  const auto tokens = program.path("dataset/train.tokens");
  std::fstream file(tokens, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(200);
  file.put('\1');
  file.close();
  expect_error(program.run("train small.yaml"), 3, "its ids are damaged", "train.tokens");
  program.build_dataset();
  EXPECT_EQ(program.run("train small.yaml --set train.steps=1").exit_code, 0);
}

TEST(Errors, ATokenizerOfAnotherDatasetIsRefused) {
  const Program program;
  program.build_dataset();
  std::ofstream(program.path("dataset/tokenizer.model"), std::ios::app) << 'x';
  expect_error(program.run("train small.yaml"), 3, "", "tokenizer.model");
}

TEST(Errors, ARunIsTrainedByOneProcessAtATime) {
  const Program program;
  program.build_dataset();
  expect_error(
      program.shell("mkdir -p runs/small && flock runs/small $SWITCHYARD train small.yaml"), 2,
      "another process is training this run", "runs/small");
  EXPECT_EQ(program.run("train small.yaml").exit_code, 0);
}

TEST(Errors, WeightsOfAnotherTokenizerAreRefused) {
  const Program program;
  program.build_dataset();
  ASSERT_EQ(program.run("train small.yaml").exit_code, 0);
  const std::string other = "small.yaml --set data.dir=other --set data.validation_share=0.5";
  ASSERT_EQ(program.run("data build " + other).exit_code, 0);
  expect_error(program.run("train " + other + " --set name=tuned --from runs/small"), 4,
               "another tokenizer", "step-00000006");
}

TEST(Errors, ACheckpointOfAnotherModelOrDatasetIsRefused) {
  const Program program;
  program.build_dataset();
  ASSERT_EQ(program.run("train small.yaml").exit_code, 0);
  expect_error(program.run("train small.yaml --set train.steps=9 --set model.d_ff=32"), 4, "wi",
               "step-00000006");
  expect_error(program.run("train small.yaml --set train.steps=9 --set seed=2"), 4, "seed",
               "step-00000006");
  expect_error(program.run("eval small.yaml --set name=other"), 4, "no checkpoint", "runs/other");
}

}  // namespace
}  // namespace switchyard::test
