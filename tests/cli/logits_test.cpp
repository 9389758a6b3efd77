// `switchyard logits`: the file that it writes, what it depends on, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/outputs.h"
#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kTokens =
    "{\"input_ids\": [5, 9, 17, 4, 1], \"decoder_input_ids\": [0, 7, 8]}\n"
    "{\"input_ids\": [6, 3, 0], \"attention_mask\": [1, 1, 0], \"decoder_input_ids\": [0, 7, 8, "
    "30]}\n"
    "{\"input_ids\": [40, 41, 42, 43, 44, 45, 46, 1], \"decoder_input_ids\": [0]}\n";

template <typename T>
std::vector<T> slice(const std::vector<T>& all, size_t first, size_t count) {
  return {all.begin() + static_cast<int64_t>(first),
          all.begin() + static_cast<int64_t>(first + count)};
}

class LogitsProgram : public testing::Test {
 protected:
  void SetUp() override {
    program_.build_dataset();
    const Outcome trained = program_.run("train small.yaml --set train.steps=2");
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    program_.write("ids.jsonl", kTokens);
  }
  Outcome run(const std::string& arguments) const { return program_.run("logits " + arguments); }
  Outputs outputs(const std::string& arguments) const {
    const Outcome outcome = run(arguments + " --to out.safetensors");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Outputs(program_.path("out.safetensors"));
  }
  void expect_refused(const std::string& arguments, int exit_code, const std::string& what) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(what));
    EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 3) << outcome.err;
  }

  Program program_;
};

TEST_F(LogitsProgram, WritesEverySequenceAsItStandsAlone) {
  const Outputs all = outputs("--from runs/small --tokens ids.jsonl");
  EXPECT_THAT(all.names(),
              ElementsAre("decoder.block.1.moe.chosen", "decoder.block.1.moe.kept",
                          "decoder.block.1.moe.probabilities", "decoder.block.1.moe.weights",
                          "encoder.block.1.moe.chosen", "encoder.block.1.moe.kept",
                          "encoder.block.1.moe.probabilities", "encoder.block.1.moe.weights",
                          "encoder_lengths", "lengths", "logits"));
  EXPECT_EQ(all.shape("logits"), Shape({3, 4, 384}));
  EXPECT_EQ(all.shape("encoder.block.1.moe.probabilities"), Shape({3, 8, 4}));
  EXPECT_EQ(all.shape("decoder.block.1.moe.chosen"), Shape({3, 4, 1}));
  EXPECT_THAT(all.integers("lengths"), ElementsAre(3, 4, 1));
  EXPECT_THAT(all.integers("encoder_lengths"), ElementsAre(5, 3, 8));

  // Behind a sequence's end.
  EXPECT_THAT(slice(all.floats("logits"), 9 * 384, 3 * 384), Each(0.0f));
  EXPECT_THAT(slice(all.integers("encoder.block.1.moe.chosen"), 8 + 3, 5), Each(-1));
  // Padding isn't routed.
  EXPECT_EQ(all.integers("encoder.block.1.moe.chosen")[8 + 2], -1);

  const auto chosen = all.integers("encoder.block.1.moe.chosen");
  const auto weights = all.floats("encoder.block.1.moe.weights");
  const auto probabilities = all.floats("encoder.block.1.moe.probabilities");
  for (const size_t token : {0, 1, 2, 3, 4, 8, 9, 16, 17, 18, 19, 20, 21, 22, 23}) {
    const std::vector<float> of_token = slice(probabilities, token * 4, 4);
    const auto best = std::ranges::max_element(of_token);
    EXPECT_EQ(chosen[token], best - of_token.begin()) << token;
    EXPECT_EQ(weights[token], *best) << token;
    EXPECT_NEAR(of_token[0] + of_token[1] + of_token[2] + of_token[3], 1, 1e-6) << token;
  }

  program_.write("ids.jsonl",
                 "{\"input_ids\": [6, 3, 0], \"attention_mask\": [1, 1, 0], "
                 "\"decoder_input_ids\": [0, 7, 8, 30]}\n");
  const Outputs alone = outputs("--from runs/small/checkpoints/step-00000002 --tokens ids.jsonl");
  EXPECT_EQ(alone.floats("logits"), slice(all.floats("logits"), 4 * 384, 4 * 384));
  EXPECT_EQ(alone.floats("decoder.block.1.moe.probabilities"),
            slice(all.floats("decoder.block.1.moe.probabilities"), 4 * 4, 4 * 4));
  EXPECT_EQ(alone.integers("decoder.block.1.moe.kept"),
            slice(all.integers("decoder.block.1.moe.kept"), 4, 4));
}

// An expert has room for one token of a sequence: the first.
TEST_F(LogitsProgram, SaysWhatWasDropped) {
  const Outputs all = outputs(
      "--from runs/small --tokens ids.jsonl "
      "--set moe.capacity.eval_factor=0.1 --set moe.capacity.min_tokens=1");
  const auto chosen = all.integers("encoder.block.1.moe.chosen");
  const auto kept = all.integers("encoder.block.1.moe.kept");
  for (size_t sequence = 0; sequence < 3; ++sequence) {
    std::vector<bool> full(4, false);
    for (size_t i = sequence * 8; i < sequence * 8 + 8; ++i) {
      if (chosen[i] < 0) continue;
      const auto expert = static_cast<size_t>(chosen[i]);
      EXPECT_EQ(kept[i], full[expert] ? -1 : chosen[i]) << i;
      full[expert] = true;
    }
  }
}

TEST_F(LogitsProgram, RefusesWhatDoesNotFit) {
  expect_refused("--tokens ids.jsonl --to out", 2, "--from DIR is missing");
  expect_refused("--from runs/small --to out", 2, "--tokens FILE is missing");
  expect_refused("--from runs/small --tokens ids.jsonl", 2, "--to FILE is missing");
  expect_refused("--from runs/small --tokens ids.jsonl --to gone/out", 2, "folder of --to");
  const std::string to = " --to out.safetensors";
  expect_refused("--from runs/none --tokens ids.jsonl" + to, 4, "there is no checkpoint");
  expect_refused("--from runs/small --tokens none.jsonl" + to, 3, "none.jsonl");
  expect_refused("--from runs/small --tokens ids.jsonl --set model.d_ff=12" + to, 4, "shape");
  expect_refused("--from runs/small --tokens ids.jsonl --set model.d_fff=12" + to, 2, "d_fff");
  program_.write("wrong.jsonl", std::string(kTokens) + "{\"input_ids\": [384]}\n");
  expect_refused("--from runs/small --tokens wrong.jsonl" + to, 3, "wrong.jsonl:4");
  EXPECT_FALSE(std::filesystem::exists(program_.path("out.safetensors")));
}

}  // namespace
}  // namespace switchyard::test
