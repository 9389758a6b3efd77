// `switchyard logits` of the models that transformers 4.57.6 made (tests/golden): the directories
// themselves, and what `convert` makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/outputs.h"
#include "cli/program.h"
#include "support/golden.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

struct GoldenModel {
  std::string folder;
  std::vector<int> mixtures = {};  // blocks of a decoder-only model
  bool has_encoder = false;
};
void PrintTo(const GoldenModel& model, std::ostream* out) { *out << model.folder; }

// Measured against the largest logit; 1e-6 was seen.
constexpr double kTolerance = 1e-5;

// [N, S] numbers of the golden file, a list of each row.
nlohmann::json rows_of(const GoldenTensors& golden, const std::string& name, int64_t row) {
  const std::vector<int32_t> all = golden.integers(name);
  const int64_t length = golden.shape(name)[1];
  return std::vector<int32_t>(all.begin() + row * length, all.begin() + (row + 1) * length);
}

class GoldenLogits : public testing::TestWithParam<GoldenModel> {
 protected:
  GoldenLogits() : golden_(GetParam().folder + "/golden.safetensors") {
    std::string lines;
    for (int64_t row = 0; row < golden_.shape("input_ids")[0]; ++row) {
      nlohmann::json line;
      for (const std::string& name : keys()) line[name] = rows_of(golden_, name, row);
      lines += line.dump() + "\n";
    }
    program_.write("ids.jsonl", lines);
  }
  static std::vector<std::string> keys() {
    if (GetParam().has_encoder) return {"input_ids", "attention_mask", "decoder_input_ids"};
    return {"input_ids", "attention_mask", "position_ids"};
  }
  std::string path() const { return golden_path(GetParam().folder).string(); }
  Outputs outputs(const std::string& from, const std::string& more = "") const {
    const Outcome outcome =
        program_.run("logits --tokens ids.jsonl --to out.safetensors --from " + from + more);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Outputs(program_.path("out.safetensors"));
  }

  // Positions whose results mean something: decoder-only models route padding there, not here.
  std::vector<bool> real_positions() const {
    const bool masked = !GetParam().has_encoder;
    std::vector<bool> real;
    for (const int32_t one : golden_.integers(masked ? "attention_mask" : "decoder_input_ids")) {
      real.push_back(!masked || one == 1);
    }
    return real;
  }

  void expect_logits(const Outputs& ours, double tolerance) const {
    const std::vector<double> expected = golden_.floats("logits");
    const std::vector<float> logits = ours.floats("logits");
    const std::vector<bool> real = real_positions();
    ASSERT_EQ(logits.size(), expected.size());
    const size_t width = expected.size() / real.size();
    for (size_t i = 0; i < expected.size(); ++i) {
      if (!real[i / width]) continue;
      ASSERT_NEAR(static_cast<double>(logits[i]), expected[i], tolerance)
          << "position " << i / width << ", id " << i % width;
    }
  }
  double largest_logit() const {
    double largest = 0;
    for (const double logit : golden_.floats("logits")) {
      largest = std::max(largest, std::abs(logit));
    }
    return largest;
  }

  void expect_choices(const Outputs& ours) const {
    const std::vector<bool> real = real_positions();
    for (const int block : GetParam().mixtures) {
      const std::string layer = "decoder.block." + std::to_string(block) + ".moe";
      const auto chosen = ours.integers(layer + ".chosen"), kept = ours.integers(layer + ".kept");
      const auto expected = golden_.integers(std::to_string(block) + ".router.chosen");
      ASSERT_EQ(chosen.size(), expected.size());
      for (size_t i = 0; i < chosen.size(); ++i) {
        if (!real[i / (chosen.size() / real.size())]) continue;
        EXPECT_EQ(chosen[i], expected[i]) << layer << " " << i;
        EXPECT_EQ(kept[i], chosen[i]) << layer << " " << i;
      }
    }
  }

  const GoldenTensors golden_;
  const Program program_;
};

TEST_P(GoldenLogits, AreThoseOfTransformers) {
  const Outputs ours = outputs(path());
  expect_logits(ours, kTolerance * largest_logit());
  expect_choices(ours);
}

TEST_P(GoldenLogits, OfTheConvertedModelAreTheSameFile) {
  outputs(path());
  const std::string direct = program_.read("out.safetensors");
  const Outcome converted = program_.run("convert --from " + path() + " --to converted");
  ASSERT_EQ(converted.exit_code, 0) << converted.err;
  outputs("converted");
  EXPECT_EQ(program_.read("out.safetensors"), direct);
}

class LogitsInBfloat16 : public GoldenLogits {};

// Ours and theirs round at different places, so each has an error of its own against float32.
TEST_P(LogitsInBfloat16, AreAsCloseToFloat32AsTheirs) {
  const double theirs =
      golden_json(GetParam().folder + "/golden.json").at("change_by_computing_in_bfloat16");
  expect_logits(outputs(path(), " --set train.precision=bfloat16"), 1.5 * theirs);
}

std::string name_of(const testing::TestParamInfo<GoldenModel>& model) {
  std::string name = model.param.folder;
  std::ranges::replace(name, '/', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenLogits,
    testing::Values(GoldenModel{"switch_full", {}, true}, GoldenModel{"t5/relu", {}, true},
                    GoldenModel{"t5/gated_gelu", {}, true}, GoldenModel{"decoder/mixtral", {0, 1}},
                    GoldenModel{"decoder/olmoe", {0, 1}}, GoldenModel{"decoder/qwen3_moe", {0, 1}},
                    GoldenModel{"saved/mixtral_bfloat16", {0, 1}},
                    GoldenModel{"saved/olmoe_float16", {0, 1}},
                    GoldenModel{"saved/qwen3_moe_bfloat16", {0, 1}},
                    GoldenModel{"saved/switch_bfloat16", {}, true},
                    GoldenModel{"saved/t5_float16", {}, true}),
    name_of);
INSTANTIATE_TEST_SUITE_P(All, LogitsInBfloat16,
                         testing::Values(GoldenModel{"saved/mixtral_bfloat16", {0, 1}},
                                         GoldenModel{"saved/qwen3_moe_bfloat16", {0, 1}},
                                         GoldenModel{"saved/switch_bfloat16", {}, true}),
                         name_of);

// Writes the batch of an encoder-decoder to ids.jsonl and returns what the model makes of it.
//   masks  name in the golden file of the decoder's mask; empty: none
Outputs outputs_of(const Program& program, const std::string& folder, const std::string& mask) {
  const GoldenTensors golden(folder + "/golden.safetensors");
  std::string lines;
  for (int64_t row = 0; row < golden.shape("input_ids")[0]; ++row) {
    nlohmann::json line;
    for (const char* name : {"input_ids", "attention_mask", "decoder_input_ids"}) {
      line[name] = rows_of(golden, name, row);
    }
    if (!mask.empty()) line["decoder_attention_mask"] = rows_of(golden, mask, row);
    lines += line.dump() + "\n";
  }
  program.write("ids.jsonl", lines);
  const Outcome outcome = program.run("logits --tokens ids.jsonl --to out.safetensors --from " +
                                      golden_path(folder).string());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return Outputs(program.path("out.safetensors"));
}

// Choices, drops and probabilities, padding's too: it takes room here as there.
TEST(SwitchLogits, RouteAsTransformers) {
  const GoldenTensors golden("switch_full/golden.safetensors");
  const Program program;
  const Outputs ours = outputs_of(program, "switch_full", "");
  for (const std::string layer : {"encoder.1", "encoder.3", "decoder.1"}) {
    std::string name = layer + ".moe";
    name.replace(name.find('.'), 1, ".block.");
    const auto chosen = ours.integers(name + ".chosen"), kept = ours.integers(name + ".kept");
    EXPECT_EQ(chosen, golden.integers(layer + ".router.chosen")) << layer;
    const auto flags = golden.integers(layer + ".router.kept");
    const auto weights = ours.floats(name + ".weights");
    const auto gate = golden.floats(layer + ".router.gate");
    for (size_t i = 0; i < kept.size(); ++i) {
      EXPECT_EQ(kept[i], flags[i] == 1 ? chosen[i] : -1) << layer << " " << i;
      EXPECT_NEAR(static_cast<double>(weights[i]), gate[i], 1e-6) << layer << " " << i;
    }
    const auto probabilities = ours.floats(name + ".probabilities");
    const auto logits = golden.floats(layer + ".router.logits");
    const size_t experts = logits.size() / kept.size();
    for (size_t i = 0; i < logits.size(); ++i) {
      double sum = 0;
      for (size_t e = 0; e < experts; ++e) sum += std::exp(logits[i / experts * experts + e]);
      EXPECT_NEAR(static_cast<double>(probabilities[i]), std::exp(logits[i]) / sum, 1e-6);
    }
  }
}

// It hides keys beyond those that causality hides.
TEST(T5Logits, FollowTheDecodersMask) {
  const Program program;
  const Outputs ours = outputs_of(program, "t5/relu", "masked.decoder_attention_mask");
  const auto logits = ours.floats("logits");
  const auto expected = GoldenTensors("t5/relu/golden.safetensors").floats("masked.logits");
  ASSERT_EQ(logits.size(), expected.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(logits[i]), expected[i], 3e-5) << i;
  }
}

// OLMoE's tokenizer is no SentencePiece model: ids in, ids out, text refused.
TEST(ModelWithoutSentencePiece, TrainsEvaluatesAndAnswersOnIds) {
  const Program program;
  const Outcome converted =
      program.run("convert --from " + golden_path("decoder/olmoe").string() + " --to olmoe");
  ASSERT_EQ(converted.exit_code, 0) << converted.err;
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    lines += "{\"ids\": [" + std::to_string(3 + i % 50);
    for (int j = 0; j < 25; ++j) lines += ", " + std::to_string(3 + (i * 7 + j * 3) % 57);
    lines += "]}\n";
  }
  program.write("ids.jsonl", lines);
  program.write("tuned.yaml", R"(base: olmoe/config.yaml
name: tuned
data:
  dir: dataset
  task: causal
  length: 16
  vocabulary: {size: 61, pad: 0, eos: 2}
  validation_share: 0.2
  sources:
    - {label: ids, path: ids.jsonl, format: ids}
train: {steps: 3, batch_sequences: 4, evaluation_sequences: 4}
)");
  const auto succeeds = [&](const std::string& arguments) {
    const Outcome outcome = program.run(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
    return outcome.out;
  };
  succeeds("data build tuned.yaml");
  EXPECT_THAT(succeeds("train tuned.yaml --from olmoe"), HasSubstr("evaluation at step 3"));
  EXPECT_THAT(succeeds("eval tuned.yaml --from olmoe"), HasSubstr("loss"));
  program.write("prompts.jsonl", "{\"input_ids\": [5, 8, 9]}\n");
  EXPECT_THAT(succeeds("generate tuned.yaml --prompt-ids prompts.jsonl --max-tokens 3"),
              testing::StartsWith("{\"input_ids\": [5, 8, 9], \"output_ids\": ["));
  const Outcome text = program.run("generate tuned.yaml --prompt 'some text'");
  EXPECT_EQ(text.exit_code, 3);
  EXPECT_THAT(text.err, HasSubstr("--prompt-ids FILE"));
}

}  // namespace
}  // namespace switchyard::test
