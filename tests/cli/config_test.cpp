// The verbs around the config: `config show|schema|docs` and `init`, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(ConfigShow, TheOutputIsAConfigThatShowsAsItself) {
  const Program program;
  const std::string settings = " --set train.steps=7 --set moe.encoder.capacity.eval_factor=3";
  const Outcome shown = program.run("config show small.yaml" + settings);
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_EQ(shown.err, "");
  program.write("again.yaml", shown.out);
  EXPECT_EQ(program.run("config show again.yaml").out, shown.out);

  const Outcome origins = program.run("config show small.yaml --origin" + settings);
  EXPECT_THAT(origins.out, HasSubstr("# --set train.steps=7\n"));
  EXPECT_THAT(origins.out, HasSubstr("# small.yaml:4:12\n"));
  EXPECT_THAT(origins.out, HasSubstr("# as moe.capacity.train_factor\n"));
  program.write("origins.yaml", origins.out);
  EXPECT_EQ(program.run("config show origins.yaml").out, shown.out);
}

TEST(ConfigShow, WrongConfigsAndBases) {
  const Program program;
  program.write("base.yaml", "moe:\n  experst: 2\n");
  program.write("wrong.yaml", "base: base.yaml\n");
  const Outcome outcome = program.run("config show wrong.yaml");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err,
            "error: unknown key 'moe.experst'\n  at base.yaml:2:3\n  did you mean 'experts'?\n");
  EXPECT_EQ(outcome.out, "");
}

TEST(ConfigDescribed, SchemaAndReference) {
  const Program program;
  const Outcome schema = program.run("config schema");
  ASSERT_EQ(schema.exit_code, 0) << schema.err;
  const auto json = nlohmann::json::parse(schema.out);
  const auto& factor =
      json["properties"]["moe"]["properties"]["capacity"]["properties"]["train_factor"];
  EXPECT_EQ(factor["type"], "number");
  EXPECT_EQ(factor["default"], 1.25);
  EXPECT_EQ(factor["minimum"], 0.1);
  EXPECT_EQ(factor["maximum"], 64.0);
  EXPECT_THAT(factor["description"], HasSubstr("Unit: ratio."));
  EXPECT_EQ(json["additionalProperties"], false);

  const Outcome docs = program.run("config docs");
  EXPECT_THAT(docs.out, StartsWith("# Every key of a config\n"));
  EXPECT_THAT(docs.out, HasSubstr("\n## moe.capacity\n"));
  EXPECT_THAT(docs.out, HasSubstr("| `train_factor` | number | `1.25` | 0.1 to 64 ratio |"));
}

TEST(Init, WritesAConfigThatTrains) {
  const Program program;
  const Outcome written = program.run("init my.yaml");
  ASSERT_EQ(written.exit_code, 0) << written.err;
  EXPECT_THAT(written.out, HasSubstr("switchyard train my.yaml"));
  const std::string small =
      " my.yaml --set data.tokenizer.vocabulary=384 --set model.d_model=16 --set model.d_ff=16"
      " --set train.steps=2 --set train.batch_sequences=8 --set parallel.threads=1";
  const Outcome built = program.run("data build" + small);
  ASSERT_EQ(built.exit_code, 0) << built.err;
  const Outcome trained = program.run("train" + small);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("checkpoint runs/my/checkpoints/step-00000002"));
}

TEST(Init, GivesFewKeysAndAComment) {
  const Program program;
  ASSERT_EQ(program.run("init").exit_code, 0);
  const std::string text = program.read("switchyard.yaml");
  EXPECT_THAT(text, StartsWith("# "));
  std::istringstream shown(program.run("config show switchyard.yaml --origin").out);
  int given = 0;
  for (std::string line; std::getline(shown, line);)
    given += line.find("# switchyard.yaml:") != std::string::npos;
  EXPECT_GE(given, 10);
  EXPECT_LE(given, 16);  // fifteen, of which the one source has label and path
}

TEST(Init, NeverOverwrites) {
  const Program program;
  const std::string before = program.read("small.yaml");
  const Outcome outcome = program.run("init small.yaml");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err,
            "error: there is already a file of that name\n  at small.yaml\n"
            "  give another one: switchyard init FILE\n");
  EXPECT_EQ(program.read("small.yaml"), before);
  const Outcome nowhere = program.run("init none/my.yaml");
  EXPECT_EQ(nowhere.exit_code, 8);
  EXPECT_THAT(nowhere.err, HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace switchyard::test
