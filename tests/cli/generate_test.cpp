// Models of both families, trained for a few steps and asked to go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

void expect_refused(const Outcome& outcome, int exit_code, const std::string& what) {
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.out;
  EXPECT_THAT(outcome.err, HasSubstr(what));
  EXPECT_EQ(outcome.out, "");
}

TEST(Generate, AnswersOfAnEncoderDecoder) {
  const Program program;
  program.build_dataset();
  ASSERT_EQ(program.run("train small.yaml --set train.steps=2").exit_code, 0);
  const std::string one = " --prompt 'ba <extra_id_0> be' --max-tokens 5";
  const Outcome answer = program.run("generate small.yaml" + one);
  ASSERT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_THAT(answer.out, testing::EndsWith("\n"));
  // The folder of the run and its checkpoint are the same model; so is one computed without cache.
  EXPECT_EQ(program.run("generate runs/small" + one).out, answer.out);
  EXPECT_EQ(program
                .run("generate small.yaml --no-cache --checkpoint "
                     "runs/small/checkpoints/step-00000002" +
                     one)
                .out,
            answer.out);

  program.write("prompts.txt", "ba <extra_id_0> be\nbe\n");
  const Outcome both = program.run("generate runs/small --prompts prompts.txt --max-tokens 5");
  EXPECT_THAT(both.out, StartsWith("> ba <extra_id_0> be\n" + answer.out + "\n> be\n"));

  // Ids instead of text.
  program.write("ids.jsonl", "{\"input_ids\": [5, 17, 1]}\n");
  const Outcome ids = program.run("generate runs/small --prompt-ids ids.jsonl --max-tokens 5");
  EXPECT_EQ(ids.exit_code, 0) << ids.err;
  EXPECT_THAT(ids.out, StartsWith("{\"input_ids\": [5, 17, 1], \"output_ids\": ["));

  const auto drawn = [&](const std::string& options) {
    return program.run("generate runs/small --temperature 2" + options + one).out;
  };
  EXPECT_EQ(drawn(""), drawn(" --seed 0"));
  EXPECT_NE(drawn(" --seed 1") + drawn(" --seed 2"), drawn(" --seed 3") + drawn(" --seed 4"));
  EXPECT_EQ(drawn(" --top-k 1"), answer.out);

  const auto run = [&](const std::string& arguments) {
    return program.run("generate runs/small " + arguments);
  };
  expect_refused(run(""), 2, "there is no prompt");
  expect_refused(run("--prompt a --prompts prompts.txt"), 2, "contradict each other");
  expect_refused(run("--prompt a --prompt-ids prompts.txt"), 2, "contradict each other");
  expect_refused(run("--prompts none.txt"), 3, "can't be read");
  expect_refused(run("--prompt ' '"), 3, "the prompt is empty");
  expect_refused(run("--prompt a --max-tokens 0"), 2, "--max-tokens 0 is out of range");
  expect_refused(run("--prompt a --top-p 0.5"), 2, "--top-p has no effect at --temperature 0");
  expect_refused(run("--prompt a --temperature hot"), 2, "--temperature hot is no number");
  expect_refused(run("--prompt a --temperature 1 --top-p 2"), 2, "--top-p 2 is out of range");
  std::string longer;
  for (int i = 0; i < 60; ++i) longer += "ba be ";
  expect_refused(run("--prompt '" + longer + "'"), 3, "the model takes 32");
  program.write("prompts.txt", "be\n\n");
  expect_refused(run("--prompts prompts.txt"), 3, "prompts.txt:2");
  std::filesystem::remove(program.path("runs/small/checkpoints/step-00000002/tokenizer.model"));
  expect_refused(run("--prompt a"), 4, "tokenizer");
}

TEST(Generate, ADecoderAloneGoesOnFromThePrompt) {
  const Program program;
  program.build_dataset();
  program.write("causal.yaml", R"(device: cpu
model: {type: decoder_lm, d_model: 16, d_ff: 24, heads: 2, layers: 2, activation: swiglu, dropout: 0.0}
moe: {experts: 4, group_sequences: 2, layers: {every: 2}, router: {type: switch}}
data: {dir: dataset, task: causal, length: 32}
train: {steps: 6, batch_sequences: 8, evaluation_sequences: 16}
parallel: {threads: 1}
)");
  const Outcome shown = program.run("data show causal.yaml --count 1");
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("sequence 0: 32 of 32 tokens"));
  const Outcome trained = program.run("train causal.yaml");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("evaluation at step 6"));
  expect_refused(program.run("eval causal.yaml --shuffle-inputs"), 2, "needs an encoder");

  const Outcome answer = program.run("generate causal.yaml --prompt 'ba be' --max-tokens 12");
  ASSERT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_EQ(program.run("generate causal.yaml --no-cache --prompt 'ba be' --max-tokens 12").out,
            answer.out);
  EXPECT_THAT(program.run("generate causal.yaml --prompt 'ba be' --max-tokens 40").err,
              HasSubstr("--max-tokens 40 is out of range"));
}

}  // namespace
}  // namespace switchyard::test
