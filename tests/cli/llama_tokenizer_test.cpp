// Text for models with Llama's tokenizer, such as Mixtral: to Hugging Face, back, and on from
// there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include "cli/program.h"
#include "support/llama_tokenizer.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kMixtral = R"(name: small
device: cpu
model:
  type: decoder_lm
  d_model: 16
  heads: 2
  d_ff: 24
  layers: 2
  activation: swiglu
  tie_embeddings: false
  vocabulary: 320
moe:
  experts: 3
  layers: all
  router: {type: top_k, top_k: 2, normalize: true}
  capacity: {overflow: dropless}
data:
  dir: dataset
  task: causal
  length: 32
  tokenizer: {model: llama.model}
  validation_share: 0.2
  sources:
    - {label: north, path: text/north}
train: {steps: 3, batch_sequences: 4, evaluation_sequences: 4}
parallel: {threads: 1}
)";

TEST(LlamasTokenizer, ReadsTextForAModelThatComesFromHuggingFace) {
  const Program program;
  const auto succeeds = [&](const std::string& arguments) {
    const Outcome outcome = program.run(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
    return outcome.out;
  };
  program.write("llama.model", llama_tokenizer());
  program.write("small.yaml", kMixtral);
  succeeds("data build small.yaml");
  EXPECT_THAT(succeeds("train small.yaml"), HasSubstr("vocabulary 320"));
  succeeds("convert --from runs/small --to theirs");
  EXPECT_EQ(program.read("theirs/tokenizer.model"), llama_tokenizer());
  const auto config = nlohmann::json::parse(program.read("theirs/config.json"));
  EXPECT_EQ(config["model_type"], "mixtral");
  EXPECT_EQ(config["eos_token_id"], 2);
  EXPECT_TRUE(config["pad_token_id"].is_null());

  EXPECT_THAT(succeeds("convert --from theirs --to ours"), Not(HasSubstr("carried along")));
  program.write("tuned.yaml", R"(base: ours/config.yaml
name: tuned
data:
  dir: more
  length: 32
  validation_share: 0.2
  sources:
    - {label: south, path: text/south}
train: {steps: 3, batch_sequences: 4, evaluation_sequences: 4}
)");
  EXPECT_THAT(succeeds("data build tuned.yaml"), HasSubstr("320 ids"));
  EXPECT_THAT(succeeds("train tuned.yaml --from ours"), HasSubstr("evaluation at step 3: loss "));

  // A prompt is read from its beginning, and its answer is the text behind it.
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(llama_tokenizer()).ok());
  std::vector<int> ids;
  ASSERT_TRUE(library.Encode("lmn  opq", &ids).ok());
  ids.insert(ids.begin(), 1);
  program.write("prompts.jsonl", nlohmann::json{{"input_ids", ids}}.dump() + "\n");
  const auto answered = nlohmann::json::parse(
      succeeds("generate runs/tuned --prompt-ids prompts.jsonl --max-tokens 6"));
  std::string before, all;
  ASSERT_TRUE(library.Decode(ids, &before).ok());
  for (const int id : answered["output_ids"]) ids.push_back(id);
  ASSERT_TRUE(library.Decode(ids, &all).ok());
  EXPECT_EQ(succeeds("generate runs/tuned --prompt 'lmn  opq' --max-tokens 6"),
            all.substr(before.size()) + "\n");
}

}  // namespace
}  // namespace switchyard::test
