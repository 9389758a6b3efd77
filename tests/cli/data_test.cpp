// Datasets from the command line: lines of JSON, pairs, ids, mixtures, what `data show` prints, and
// which mistakes are named how.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// Pairs and a config that learns from them with the small dataset's tokenizer.
class PairsProgram : public testing::Test {
 protected:
  PairsProgram() {
    std::string lines;
    for (int i = 0; i < 60; ++i) {
      const std::string number = std::to_string(i);
      lines += R"({"inputs": "abc deb )" + number + R"( ", "targets": "lmn )" + number +
               R"(", "side": ")" + (i % 3 == 0 ? "left" : "right") + "\"}\n";
    }
    program_.write("pairs.jsonl", lines);
    program_.write_config_with("pairs.yaml", kSmallData, kPairsData);
    program_.build_dataset();
    const Outcome built = program_.run("data build pairs.yaml");
    EXPECT_EQ(built.exit_code, 0) << built.err;
  }

  static constexpr const char* kSmallData = R"(  dir: dataset
  inputs_length: 32
  tokenizer: {vocabulary: 384}
  validation_share: 0.2
  sources:
    - {label: north, path: text/north}
    - {label: south, path: text/south}
)";
  static constexpr const char* kPairsData = R"(  dir: pairs
  task: text_to_text
  inputs_length: 48
  targets_length: 24
  packing: true
  tokenizer: {model: dataset}
  validation_share: 0.2
  sources:
    - {path: pairs.jsonl, format: jsonl, label_key: side}
)";
  Program program_;
};

TEST_F(PairsProgram, TrainsOnPackedPairs) {
  const Outcome trained = program_.run("train pairs.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("dataset pairs (2 labels)"));
  const Outcome evaluated = program_.run("eval pairs.yaml");
  EXPECT_THAT(evaluated.out, HasSubstr("left"));
  // Another packing is other data: the run's checkpoint doesn't go with it.
  const Outcome unpacked =
      program_.run("train pairs.yaml --set data.packing=false --set train.steps=8");
  EXPECT_EQ(unpacked.exit_code, 4);
  EXPECT_THAT(unpacked.err, HasSubstr("read in another way"));
}

TEST_F(PairsProgram, ShowsSequencesAsTheModelSeesThem) {
  const Outcome packed = program_.run("data show pairs.yaml --count 2");
  ASSERT_EQ(packed.exit_code, 0) << packed.err;
  EXPECT_THAT(packed.out, HasSubstr("sequence 1: inputs "));
  EXPECT_THAT(packed.out, HasSubstr("of 48 tokens, targets "));
  EXPECT_THAT(packed.out, HasSubstr("  segment 2: label "));
  const std::regex pair(R"(inputs:  abc deb (\d+) </s>\n  targets: lmn (\d+) </s>)");
  std::smatch found;
  ASSERT_TRUE(std::regex_search(packed.out, found, pair)) << packed.out;
  EXPECT_EQ(found[1], found[2]) << "inputs stand with their targets";

  const Outcome validation = program_.run("data show pairs.yaml --split validation --count 99");
  EXPECT_THAT(validation.out, HasSubstr("sequence 0: inputs "));
  EXPECT_THAT(validation.out, Not(HasSubstr("segment"))) << "evaluation isn't packed";
  const Outcome spans = program_.run("data show small.yaml --count 1");
  EXPECT_THAT(spans.out, HasSubstr("<extra_id_0>"));
  EXPECT_THAT(spans.out, HasSubstr("label:   "));
  EXPECT_EQ(program_.run("data show small.yaml --count x").exit_code, 2);
  EXPECT_EQ(program_.run("data show small.yaml --split test").exit_code, 2);
}

TEST_F(PairsProgram, ADatasetThatDoesntFitTheConfigIsRefused) {
  const auto refusal = [&](const std::string& command) {
    const Outcome outcome = program_.run(command);
    EXPECT_EQ(outcome.exit_code, 3) << outcome.out;
    EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 3) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refusal("train pairs.yaml --set data.dir=dataset"),
              HasSubstr("the task text_to_text needs pairs, the dataset holds running text"));
  EXPECT_THAT(refusal("train small.yaml --set data.dir=pairs"),
              HasSubstr("the task span_corruption needs running text, the dataset holds pairs"));
  EXPECT_THAT(refusal("train small.yaml --set data.tokenizer.vocabulary=512"),
              HasSubstr("the dataset was built with another data.tokenizer.vocabulary"));
  EXPECT_THAT(refusal("train pairs.yaml --set data.validation_share=0.3"),
              HasSubstr("the dataset was built with another data.validation_share"));
  // Lengths, corruption and packing are free.
  EXPECT_EQ(program_.run("data show pairs.yaml --set data.targets_length=9").exit_code, 0);
  EXPECT_EQ(program_.run("data show small.yaml --set data.corruption.rate=0.3").exit_code, 0);

  program_.write("pairs.jsonl",
                 "{\"inputs\": \"a\", \"targets\": \"b\", \"side\": 1}\n{\"inputs\"");
  EXPECT_THAT(refusal("data build pairs.yaml"), HasSubstr("pairs.jsonl:2"));
  EXPECT_EQ(program_.run("train pairs.yaml --set train.steps=1").exit_code, 0)
      << "the dataset from before is whole";
}

TEST_F(PairsProgram, WarnsOfExamplesThatAreCut) {
  const Outcome cut =
      program_.run("train pairs.yaml --set train.steps=1 --set data.targets_length=4");
  ASSERT_EQ(cut.exit_code, 0) << cut.err;
  EXPECT_THAT(cut.out, HasSubstr("training examples of pairs are cut to data.targets_length = 4"));
}

TEST_F(PairsProgram, MixesDatasets) {
  program_.write_config_with("mixed.yaml", kSmallData, R"(  inputs_length: 32
  mixture:
    - {dir: dataset, weight: 3}
    - {dir: pairs, task: text_to_text}
)");
  const Outcome trained = program_.run("train mixed.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("dataset dataset, pairs (4 labels)"));
  const std::string shown = program_.run("data show mixed.yaml --count 400").out;
  const std::regex label("label:   (north|south)");
  const auto running = std::distance(std::sregex_iterator(shown.begin(), shown.end(), label),
                                     std::sregex_iterator());
  EXPECT_NEAR(static_cast<double>(running), 300, 45);
  EXPECT_EQ(program_.run("data build mixed.yaml").exit_code, 2);

  // Another tokenizer: refused by name.
  program_.write_config_with("other.yaml", "dir: dataset", "dir: other");
  const Outcome built = program_.run("data build other.yaml --set data.validation_share=0.5");
  ASSERT_EQ(built.exit_code, 0) << built.err;
  const Outcome refused = program_.run(
      "train mixed.yaml --set 'data.mixture=[{dir: pairs, task: text_to_text}, {dir: other}]'");
  EXPECT_EQ(refused.exit_code, 3) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("pairs and other have different tokenizers"));
}

TEST(Ids, TrainWithoutATokenizer) {
  const Program program;
  std::string lines;
  for (int i = 0; i < 40; ++i) {
    lines += "{\"ids\": [";
    for (int j = 0; j < 60; ++j) lines += (j ? ", " : "") + std::to_string((i * 7 + j * 3) % 90);
    lines += "]}\n";
  }
  program.write("ids.jsonl", lines);
  program.write_config_with(
      "ids.yaml", R"(  tokenizer: {vocabulary: 384}
  validation_share: 0.2
  sources:
    - {label: north, path: text/north}
    - {label: south, path: text/south}
)",
      R"(  vocabulary: {size: 100, pad: none, eos: 99, first_sentinel: 98, sentinels: 8}
  validation_share: 0.2
  sources:
    - {label: ids, path: ids.jsonl, format: ids}
)");
  const Outcome built = program.run("data build ids.yaml");
  ASSERT_EQ(built.exit_code, 0) << built.err;
  EXPECT_THAT(built.out, HasSubstr("100 ids without a tokenizer"));
  const Outcome trained = program.run("train ids.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("vocabulary 128"));
  EXPECT_EQ(program.run("eval ids.yaml").exit_code, 0);
  const Outcome shown = program.run("data show ids.yaml --count 1");
  EXPECT_TRUE(std::regex_search(shown.out, std::regex("inputs:  [0-9 ]* 98 [0-9 ]* 99\n")))
      << shown.out;

  // Text can't be asked for; ids go in and come out.
  const Outcome asked = program.run("generate ids.yaml --prompt 'some text'");
  EXPECT_EQ(asked.exit_code, 3);
  EXPECT_THAT(asked.err, HasSubstr("its model knows token ids, not text"));
  EXPECT_THAT(asked.err, HasSubstr("--prompt-ids FILE"));
  program.write("prompts.jsonl", "{\"input_ids\": [5, 8, 99]}\n{\"input_ids\": [7, 99]}\n");
  const Outcome answered =
      program.run("generate ids.yaml --prompt-ids prompts.jsonl --max-tokens 3");
  EXPECT_EQ(answered.exit_code, 0) << answered.err;
  const std::string ids = "\\[[0-9, ]*\\]}\n";
  EXPECT_TRUE(std::regex_match(
      answered.out, std::regex("\\{\"input_ids\": \\[5, 8, 99\\], \"output_ids\": " + ids +
                               "\\{\"input_ids\": \\[7, 99\\], \"output_ids\": " + ids)))
      << answered.out;
  program.write("prompts.jsonl", "{\"input_ids\": [100]}\n");  // the embedding has 128 rows
  const Outcome beyond = program.run("generate ids.yaml --prompt-ids prompts.jsonl");
  EXPECT_EQ(beyond.exit_code, 3);
  EXPECT_THAT(beyond.err, HasSubstr("prompts.jsonl:1"));

  // The run doesn't know what its ids mean: text is for its weights only where the number fits.
  for (const char* rows : {"384", "512"}) {
    const std::string name = std::string("rows") + rows;
    ASSERT_EQ(program
                  .run("train ids.yaml --set train.steps=1 --set name=" + name +
                       " --set model.vocabulary=" + rows)
                  .exit_code,
              0);
  }
  program.build_dataset();
  const auto tune = [&](const std::string& rows) {
    return program.run("train small.yaml --set name=tuned" + rows + " --from runs/rows" + rows +
                       " --set model.vocabulary=" + rows);
  };
  const Outcome fits = tune("384");
  EXPECT_EQ(fits.exit_code, 0) << fits.err;
  EXPECT_THAT(fits.out, HasSubstr("has no tokenizer: the dataset's is taken for its own, 384 ids "
                                  "for the 384 rows of its shared_embedding"));
  const Outcome misfit = tune("512");
  EXPECT_EQ(misfit.exit_code, 4);
  EXPECT_THAT(misfit.err, HasSubstr("error: the checkpoint has no tokenizer, and the dataset's is "
                                    "another model's: 384 ids for the 512 rows"));
  EXPECT_THAT(misfit.err, HasSubstr("data.tokenizer.model"));

  program.write("ids.jsonl", "{\"ids\": \"text\"}\n");
  const Outcome text = program.run("data build ids.yaml");
  EXPECT_EQ(text.exit_code, 3);
  EXPECT_THAT(text.err, HasSubstr("\"ids\" is text, but the dataset has no tokenizer"));
  EXPECT_THAT(text.err, HasSubstr("ids.jsonl:1"));
}

// The console blocks of a how-to, run as they stand.
std::string console_blocks(const std::string& document) {
  std::string script;
  const std::string opening = "```console\n";
  for (size_t at = document.find(opening); at != std::string::npos;
       at = document.find(opening, at + 1)) {
    const size_t begin = at + opening.size();
    script += document.substr(begin, document.find("```", begin) - begin);
  }
  return script;
}

TEST(FineTuning, TheHowToRunsAsItStands) {
  const Program program;
  for (const char* folder : {"configs", "docs", "framework"}) {
    std::filesystem::create_symlink(std::filesystem::path(SWITCHYARD_SOURCE) / folder,
                                    program.path(folder));
  }
  const std::string script = console_blocks(program.read("docs/how-to/fine-tune.md"));
  EXPECT_THAT(script, HasSubstr("--from runs/tiny"));
  program.write("commands", "set -eu\n" + script);
  const Outcome outcome = program.shell(
      "mkdir -p build/release && ln -s \"$SWITCHYARD\" build/release/switchyard && sh commands");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("targets: "));
  EXPECT_THAT(outcome.out, HasSubstr("starting from the weights of runs/tiny/"));
  const std::string last = outcome.out.substr(outcome.out.rfind("evaluation at step 40: loss "));
  EXPECT_THAT(last, HasSubstr("compound"));
  // Learnt from the pairs: the first evaluation's loss is above the last one's.
  const auto loss = [&](const std::string& step) {
    const std::string before = "evaluation at step " + step + ": loss ";
    return std::stod(outcome.out.substr(outcome.out.rfind(before) + before.size()));
  };
  EXPECT_LT(loss("40"), loss("20"));
}

}  // namespace
}  // namespace switchyard::test
