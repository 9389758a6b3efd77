// What a config.json says is taken over, or refused with the reason; and the same the other way.
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/resolve.h"
#include "conversion/directories.h"
#include "moe/top_k_router.h"
#include "support/llama_tokenizer.h"

namespace switchyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

// The golden model of a family with some keys of its config.json replaced.
class ChangedModel {
 public:
  ChangedModel(const std::string& golden, const nlohmann::json& keys) {
    ForeignModel model = ForeignModel::read(golden_path(golden));
    for (const auto& [key, value] : keys.items()) model.config[key] = value;
    model.write(path());
  }
  Path path() const { return directory_.path() / "model"; }
  ModelSource open() const { return open_foreign(path()); }
  std::string problem() const {
    return error_of([&] { open(); });
  }

 private:
  TemporaryDirectory directory_;
};

TEST(ForeignConfigs, SayWhatTheModelIs) {
  const Config config = open_foreign(golden_path("switch_full")).config;
  EXPECT_EQ(config.model.type, "switch_t5");
  EXPECT_EQ(config.model.d_kv, 10);
  EXPECT_EQ(config.model.encoder_layers, 4);
  EXPECT_EQ(config.model.decoder_layers, 3);
  EXPECT_EQ(config.model.relative_attention.buckets, 12);
  EXPECT_TRUE(config.model.tie_embeddings);
  EXPECT_EQ(config.moe.experts, 5);
  EXPECT_EQ(config.moe.capacity.tokens, 2);
  EXPECT_TRUE(config.moe.capacity.padding_takes_capacity);
  EXPECT_EQ(resolve_group_sequences(config), 1);
  // The step of the file wins over 3 / 3.
  EXPECT_EQ(config.moe.encoder.layers.of(4), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(config.moe.decoder.layers.of(3), (std::vector<int64_t>{1}));
  // 0.01 for each stack's mean, over two and one mixture.
  EXPECT_NEAR(config.moe.losses.load_balance.coef, 0.01 * 2 / 3, 1e-15);
  EXPECT_NEAR(config.moe.losses.router_z.coef, 0.001 * 2 / 3, 1e-15);

  const Config mixtral = open_foreign(golden_path("decoder/mixtral")).config;
  EXPECT_EQ(mixtral.model.sliding_window, 4);
  EXPECT_EQ(mixtral.model.rope_theta, 1e6);
  EXPECT_EQ(mixtral.model.norm_epsilon, 1e-5);
  EXPECT_FALSE(mixtral.model.tie_embeddings);
  EXPECT_EQ(mixtral.data.length, 2048);
  ASSERT_TRUE(mixtral.data.vocabulary);
  EXPECT_EQ(mixtral.data.vocabulary->size, 61);
  EXPECT_EQ(mixtral.data.vocabulary->eos, 2);
  // Two choices, two mixtures: a sum over the first, a mean over the second there.
  EXPECT_NEAR(mixtral.moe.losses.load_balance.coef, 0.001 * 2 / 2, 1e-15);
  EXPECT_TRUE(mixtral.moe.decoder_only.router.as<TopKRouterOptions>().normalize);
  const Config olmoe = open_foreign(golden_path("decoder/olmoe")).config;
  EXPECT_FALSE(olmoe.moe.decoder_only.router.as<TopKRouterOptions>().normalize);
}

// Text is read with the tokenizer beside the weights where the model knows all its ids.
TEST(ForeignConfigs, TakeTheTokenizerThatFits) {
  const TemporaryDirectory directory;
  const Path path = directory.path() / "model";
  ForeignModel model = ForeignModel::read(golden_path("decoder/mixtral"));
  const auto open = [&](int rows, int eos) {
    model.config["vocab_size"] = rows;
    model.config["eos_token_id"] = eos;
    for (const char* table : {"model.embed_tokens.weight", "lm_head.weight"}) {
      ForeignModel::Tensor& tensor = model.tensors.at(table);
      tensor.bytes.resize(tensor.bytes.size() / tensor.shape[0] * static_cast<size_t>(rows));
      tensor.shape[0] = static_cast<uint64_t>(rows);
    }
    std::filesystem::remove_all(path);
    model.write(path);
    std::ofstream(path / "tokenizer.model", std::ios::binary) << llama_tokenizer();
    return open_foreign(path);
  };
  const auto notes = [](const ModelSource& source) {
    return fmt::format("{}", fmt::join(source.notes, "\n"));
  };
  const ModelSource fits = open(kLlamaPieces, 2);
  EXPECT_EQ(fits.config.data.tokenizer.model, (path / "tokenizer.model").string());
  EXPECT_FALSE(fits.config.data.vocabulary);
  EXPECT_THAT(notes(fits), testing::Not(HasSubstr("tokenizer.model")));
  const ModelSource other_end = open(kLlamaPieces, 7);
  EXPECT_FALSE(other_end.config.data.vocabulary);
  EXPECT_THAT(notes(other_end), HasSubstr("ends a text with id 7, tokenizer.model with 2"));
  const ModelSource small = open(61, 2);
  ASSERT_TRUE(small.config.data.vocabulary);
  EXPECT_EQ(small.config.data.vocabulary->size, 61);
  EXPECT_EQ(small.tokenizer.path, path / "tokenizer.model");
  EXPECT_THAT(notes(small), HasSubstr("tokenizer.model has 320 ids, the model 61: it is carried "
                                      "along"));
  std::ofstream(path / "tokenizer.model") << "{}";
  EXPECT_THAT(notes(open_foreign(path)),
              HasSubstr("tokenizer.model is no SentencePiece model: it is carried along"));
}

TEST(ForeignConfigs, SparseStepsAreThoseOfTransformers) {
  struct Case {
    nlohmann::json keys;
    std::vector<int64_t> encoder;
  };
  const nlohmann::json none;
  // Without the key the class computes 4 / mixtures, rounded down; 0 mixtures give a step of 4,
  // which makes one all the same.
  const Case cases[] = {
      {{{"encoder_sparse_step", none}, {"num_sparse_encoder_layers", 2}}, {1, 3}},
      {{{"encoder_sparse_step", 2}, {"num_sparse_encoder_layers", 4}}, {1, 3}},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(ChangedModel("switch_full", one.keys).open().config.moe.encoder.layers.of(4),
              one.encoder)
        << one.keys;
  }
  for (const auto& [mixtures, layers] :
       std::map<int64_t, std::string>{{0, "{every: 4}"}, {3, "all"}, {4, "all"}}) {
    ForeignModel model = ForeignModel::read(golden_path("switch_full"));
    model.config["encoder_sparse_step"] = none;
    model.config["num_sparse_encoder_layers"] = mixtures;
    const TemporaryDirectory directory;
    model.write(directory.path() / "model");
    // The weights are those of another model; what is missing tells which layers were wanted.
    const std::string problem = error_of([&] { open_foreign(directory.path() / "model"); });
    EXPECT_THAT(problem, HasSubstr(mixtures == 0 ? "encoder.block.3.layer.1.mlp.wi.weight"
                                                 : "encoder.block.0.layer.1.mlp.router"))
        << layers;
  }
}

TEST(ForeignConfigs, HarmlessKeysPass) {
  const ChangedModel model("decoder/qwen3_moe", {{"_name_or_path", "somebody/something"},
                                                 {"transformers_version", "5.1.0"},
                                                 {"torch_dtype", "bfloat16"},
                                                 {"use_cache", true},
                                                 {"bos_token_id", 3},
                                                 {"eos_token_id", {5, 6}},
                                                 {"max_window_layers", 48},
                                                 {"sliding_window", 4096},
                                                 {"output_router_logits", true},
                                                 {"temperature", 0.7},
                                                 {"id2label", {{"0", "a"}}},
                                                 {"task_specific_params", {{"a", 1}}},
                                                 {"rope_scaling", {{"rope_type", "default"}}}});
  const ModelSource source = model.open();
  EXPECT_THAT(source.notes, IsEmpty());
  EXPECT_EQ(source.config.data.vocabulary->eos, 5);
  EXPECT_FALSE(source.config.model.sliding_window);
  // What is unknown and switched off is mentioned.
  EXPECT_THAT(ChangedModel("decoder/olmoe", {{"novelty", false}, {"other", nullptr}}).open().notes,
              testing::SizeIs(2));
}

struct Refusal {
  const char* golden;
  nlohmann::json keys;
  const char* says;
};

TEST(ForeignConfigs, WhatCannotBeExpressedIsRefused) {
  const Refusal refusals[] = {
      {"decoder/mixtral", {{"model_type", "llama"}}, "the model type \"llama\" can't be converted"},
      {"decoder/mixtral", {{"model_type", nullptr}}, "no \"model_type\""},
      {"decoder/mixtral",
       {{"architectures", {"MixtralForSequenceClassification"}}},
       "only MixtralForCausalLM"},
      {"decoder/mixtral", {{"novelty", 3}}, "\"novelty\": 3 is unknown"},
      {"decoder/mixtral", {{"quantization_config", {{"bits", 4}}}}, "quantised"},
      {"decoder/mixtral", {{"hidden_act", "xielu"}}, "\"hidden_act\": \"xielu\""},
      {"decoder/mixtral",
       {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}},
       "rotated unscaled"},
      {"decoder/mixtral",
       {{"rope_parameters", {{"rope_type", "llama3"}, {"rope_theta", 1e6}}}},
       "rotated unscaled"},
      {"decoder/mixtral", {{"rope_parameters", {{"rope_theta", 5.0}}}}, "says something else"},
      {"decoder/mixtral", {{"num_experts_per_tok", 9}}, "needs 9 experts a token"},
      {"decoder/mixtral", {{"num_experts_per_tok", 1}}, "gives every token the weight 1"},
      {"decoder/mixtral", {{"num_key_value_heads", 3}}, "does not divide"},
      {"decoder/mixtral", {{"hidden_size", "24"}}, "\"hidden_size\": \"24\" is no whole number"},
      {"decoder/mixtral", {{"hidden_size", -24}}, "only 1 to 65536"},
      {"decoder/mixtral", {{"vocab_size", nullptr}}, "no \"vocab_size\""},
      {"decoder/mixtral", {{"eos_token_id", 61}}, "no id of the vocabulary"},
      {"decoder/olmoe", {{"clip_qkv", 8.0}}, "aren't clipped here"},
      {"decoder/olmoe", {{"attention_bias", true}}, "no bias here"},
      {"decoder/olmoe", {{"head_dim", 8}}, "\"head_dim\": 8"},
      {"decoder/qwen3_moe", {{"mlp_only_layers", {1}}}, "as wide as the experts here, 18"},
      {"decoder/qwen3_moe", {{"use_sliding_window", true}}, "how wide it is"},
      {"switch_full", {{"router_bias", true}}, "gates have no bias here"},
      {"switch_full", {{"router_dtype", "bfloat16"}}, "computed in float32"},
      {"switch_full", {{"router_type", "experts_masked"}}, "\"router_type\""},
      {"switch_full", {{"num_selected_experts", 2}}, "one expert"},
      {"switch_full", {{"dense_act_fn", "gelu_fast"}}, "there is no gelu_fast here"},
      {"switch_full", {{"is_encoder_decoder", false}}, "has an encoder"},
      {"switch_full", {{"decoder_start_token_id", 5}}, "begin with the id of padding"},
      {"switch_full", {{"pruned_heads", {{"0", {1}}}}}, "pruned heads"},
  };
  for (const Refusal& refusal : refusals) {
    const std::string problem = ChangedModel(refusal.golden, refusal.keys).problem();
    EXPECT_THAT(problem, AllOf(HasSubstr(refusal.says), HasSubstr("config.json")))
        << refusal.keys << "\n"
        << problem;
    EXPECT_LE(std::ranges::count(problem, '\n'), 2) << problem;
  }
  EXPECT_THAT(error_of([] { open_foreign(golden_path("encoder_bias")); }),
              HasSubstr("only SwitchTransformersForConditionalGeneration"));
}

TEST(ForeignConfigs, HostileTextsAreRefused) {
  const std::pair<std::string, const char*> texts[] = {
      {"", "no valid JSON"},
      {"[]", "no object"},
      {"{", "no valid JSON"},
      {"{} {}", "no valid JSON"},
      {R"({"a": 1, "a": 2})", "stands there twice"},
      {R"({"a": {"b": 1, "b": 2}})", "stands there twice"},
      {R"({"a": )" + std::string(40, '[') + std::string(40, ']') + "}", "nested too deeply"},
      {R"({"a": 1e999})", "no valid JSON"},
      {R"({"a": NaN})", "no valid JSON"},
      {R"({"model_type": ["mixtral"]})", "is no text"},
      {std::string(5 << 20, ' ') + "{}", "at most"},
  };
  const TemporaryDirectory directory;
  for (const auto& [text, says] : texts) {
    std::ofstream(directory.path() / "config.json") << text;
    EXPECT_THAT(error_of([&] { open_foreign(directory.path()); }), HasSubstr(says))
        << text.substr(0, 60);
  }
}

TEST(ForeignConfigs, WeightsInOtherFilesAreNamed) {
  const TemporaryDirectory directory;
  const ForeignModel model = ForeignModel::read(golden_path("decoder/olmoe"));
  std::ofstream(directory.path() / "config.json") << model.config.dump();
  EXPECT_THAT(error_of([&] { open_foreign(directory.path()); }),
              HasSubstr("there is no model.safetensors"));
  std::ofstream(directory.path() / "pytorch_model.bin") << "x";
  EXPECT_THAT(error_of([&] { open_foreign(directory.path()); }), HasSubstr("save_pretrained"));
  std::ofstream(directory.path() / "model-00001-of-00002.safetensors") << "x";
  EXPECT_THAT(error_of([&] { open_foreign(directory.path()); }),
              HasSubstr("fetch model.safetensors.index.json"));
}

// A file of several that isn't there, is a link, or only stands for itself.
TEST(ForeignConfigs, WeightsThatAreNotWholeAreNamed) {
  const TemporaryDirectory directory;
  const Path path = directory.path() / "model", first = path / "model-00001-of-00002.safetensors";
  ForeignModel::read(golden_path("decoder/olmoe")).write(path);
  std::filesystem::rename(path / "model.safetensors", first);
  nlohmann::json index;
  const SafetensorsSet set = SafetensorsSet::open(first);
  for (const std::string& name : set.names()) {
    index["weight_map"][name] = first.filename().string();
  }
  std::ofstream(path / "model.safetensors.index.json") << index.dump();
  const auto problem = [&] { return error_of([&] { open_foreign(path); }); };
  EXPECT_EQ(problem(), "");
  std::filesystem::rename(first, directory.path() / "elsewhere");
  EXPECT_THAT(problem(), AllOf(HasSubstr("No such file"), HasSubstr(first.filename().string()),
                               HasSubstr("the index names it: fetch or copy the file again")));
  std::filesystem::create_symlink(directory.path() / "elsewhere", first);
  EXPECT_THAT(problem(), AllOf(HasSubstr("it is a link, and links are not followed"),
                               HasSubstr("put the file itself in its place")));
  std::filesystem::remove(first);
  std::ofstream(first) << "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
  EXPECT_THAT(problem(), HasSubstr("a pointer of Git LFS is not the file"));
}

// --- The other way.

const char* const kSwitch =
    "model: {d_model: 8, heads: 2, d_kv: 4, d_ff: 12, encoder_layers: 3, decoder_layers: 2}\n"
    "moe: {experts: 3, group_sequences: 1, capacity: {tokens: 4, padding_takes_capacity: true}}\n";
const char* const kT5 =
    "model: {d_model: 8, heads: 2, d_kv: 4, d_ff: 12, encoder_layers: 3, decoder_layers: 2, "
    "activation: silu, tie_embeddings: false}\n"
    "moe: {encoder: {layers: none}, decoder: {layers: none}}\n";
std::string decoder(const std::string& model, const std::string& moe) {
  return "data: {task: causal, length: 64}\nmodel: {type: decoder_lm, d_model: 8, heads: 2, d_ff: "
         "12, layers: 3, activation: swiglu" +
         (model.empty() ? "" : ", " + model) +
         "}\nmoe: {experts: 3, capacity: {overflow: dropless}, " + moe + "}\n";
}
const std::string kTopK = "layers: all, router: {type: top_k, top_k: 2, normalize: true}";

class Export : public testing::Test {
 protected:
  Path path(const std::string& name) const { return directory_.path() / name; }
  // A fresh model of the config, exported; returns what is wrong.
  std::string problem_of(const Config& config, const ConvertOptions& options = {}) const {
    ConfiguredModel model = make_reference_model(config, 16);
    std::filesystem::remove_all(path("run"));
    std::filesystem::remove_all(path("theirs"));
    const Path saved = save(model, path("run"));
    return error_of(
        [&] { convert_quietly(saved, path("theirs"), ModelFormat::kHuggingFace, options); });
  }

  TemporaryDirectory directory_;
};

// Every family from a model of ours, and back: the weights are those that it had.
TEST_F(Export, FreshModelsOfEveryFamily) {
  const std::map<std::string, std::vector<std::string>> configs = {
      {"switch_transformers", {kSwitch, std::string(kSwitch) + "# with one dense stack\n"}},
      {"t5", {kT5}},
      {"mixtral", {decoder("tie_embeddings: false, sliding_window: 5, d_kv: 6", kTopK)}},
      {"olmoe", {decoder("qk_norm: whole, kv_heads: 1", "layers: all, router: {type: switch}")}},
      {"qwen3_moe",
       {decoder("qk_norm: per_head, kv_heads: 1", "layers: [0, 2], router: {type: top_k}"),
        decoder("qk_norm: per_head, sliding_window: 7", kTopK)}},
  };
  for (const auto& [family, texts] : configs) {
    for (const std::string& text : texts) {
      const bool one_dense = text.find("one dense") != std::string::npos;
      const Config config =
          parse(text, one_dense ? std::vector<std::string>{"moe.decoder.layers=none"}
                                : std::vector<std::string>{});
      ASSERT_EQ(problem_of(config), "") << text;
      EXPECT_EQ(ForeignModel::read(path("theirs")).config["model_type"], family);
      const ModelSource back = open_foreign(path("theirs"));
      ConfiguredModel before = make_reference_model(config, 16);
      ConfiguredModel after = make_reference_model(back.config, 16);
      fill_weights(back, after.model().weights());
      EXPECT_TRUE(bytes_of(before) == bytes_of(after)) << text;
    }
  }
}

// T5's first checkpoints hold a bias that nothing uses; it is left out, and said to be.
TEST_F(Export, UnusedBiasOfT5) {
  ASSERT_EQ(problem_of(parse(kT5)), "");
  ForeignModel model = ForeignModel::read(path("theirs"));
  model.tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] =
      model.tensors.at("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
  model.write(path("old"));
  const ModelSource source = open_foreign(path("old"));
  ASSERT_EQ(source.left_out.size(), 1u);
  EXPECT_THAT(source.left_out[0].reason, HasSubstr("doesn't use it"));
}

TEST_F(Export, TheConfigIsComplete) {
  ASSERT_EQ(problem_of(parse(kSwitch)), "");
  const nlohmann::json config = ForeignModel::read(path("theirs")).config;
  const nlohmann::json expected = {
      {"architectures", {"SwitchTransformersForConditionalGeneration"}},
      {"decoder_start_token_id", 0},
      {"encoder_sparse_step", 2},
      {"decoder_sparse_step", 2},
      {"num_sparse_encoder_layers", 1},
      {"num_sparse_decoder_layers", 1},
      {"expert_capacity", 4},
      {"feed_forward_proj", "relu"},
      {"torch_dtype", "float32"},
      {"router_aux_loss_coef", 0.01},
      {"vocab_size", 16},
  };
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(config[key], value) << key;
}

TEST_F(Export, WhatTransformersCannotExpressIsRefused) {
  const std::string room = "room otherwise";
  const std::tuple<std::string, std::vector<std::string>, std::string> refusals[] = {
      {kSwitch, {"moe.encoder.router={type: gshard}"}, "no router gshard"},
      {kSwitch, {"moe.encoder.router={type: top_k, top_k: 2}"}, "one expert, moe.encoder to 2"},
      {kSwitch, {"moe.decoder.pyramid=[{layer: 1, experts: 5}]"}, "different numbers of experts"},
      {kSwitch, {"moe.shared_experts=1"}, "shared experts can't be converted"},
      {kSwitch, {"model.activation=geglu"}, "isn't gated"},
      {kSwitch, {"moe.encoder.layers=[0]"}, "isn't every n-th layer"},
      {kSwitch, {"moe.group_sequences=2"}, room},
      {kSwitch, {"moe.capacity.padding_takes_capacity=false"}, room},
      {kSwitch, {"moe.capacity.overflow=reroute"}, room},
      {kSwitch, {"moe.encoder.capacity={tokens: 5}"}, room},
      {decoder("", "layers: [1], router: {type: top_k}"), {}, "all layers of mixtral"},
      {decoder("", "layers: all, router: {type: switch}"), {}, "by their sum"},
      {decoder("", kTopK), {"moe.router.score=sigmoid"}, "softmax"},
      {decoder("", kTopK), {"moe.router.bias_update_rate=0.1"}, "bias that balances"},
      {decoder("", kTopK), {"moe.router.scale=2"}, "scale their weights"},
      {decoder("", kTopK), {"moe.capacity={overflow: drop}"}, "drops no token"},
      {decoder("qk_norm: whole", kTopK), {"model.sliding_window=5"}, "no sliding window"},
      {decoder("qk_norm: whole, d_kv: 6", kTopK), {}, "share out d_model"},
      {decoder("", kTopK), {"model.activation=relu"}, "are gated"},
  };
  for (const auto& [text, overrides, says] : refusals) {
    EXPECT_THAT(problem_of(parse(text, overrides)), HasSubstr(says)) << text << overrides.size();
    EXPECT_FALSE(std::filesystem::exists(path("theirs")));
  }
  const std::string dense =
      "data: {task: causal}\nmodel: {type: decoder_lm, d_model: 8, heads: 2, d_ff: 12, layers: 2, "
      "activation: swiglu}\nmoe: {layers: none}\n";
  EXPECT_THAT(problem_of(parse(dense)), HasSubstr("--upcycle"));
}

// Room shared out otherwise than in transformers becomes what the user says.
TEST_F(Export, CapacityAsStated) {
  const Config config = parse(kSwitch, {"moe.group_sequences=2"});
  ASSERT_EQ(problem_of(config, {.capacity = {.stated = true, .tokens = 9}}), "");
  EXPECT_EQ(ForeignModel::read(path("theirs")).config["expert_capacity"], 9);
  ASSERT_EQ(problem_of(config, {.capacity = {.stated = true, .tokens = {}}}), "");
  EXPECT_EQ(ForeignModel::read(path("theirs")).config["expert_capacity"], int64_t{1} << 30);
  const Config dropping = parse(decoder("", kTopK), {"moe.capacity={overflow: drop}"});
  EXPECT_EQ(problem_of(dropping, {.capacity = {.stated = true, .tokens = {}}}), "");
  EXPECT_THAT(problem_of(dropping, {.capacity = {.stated = true, .tokens = 9}}),
              HasSubstr("drops no token"));
}

// The optimizer's state stays behind, and shapes that were overridden don't pass.
TEST_F(Export, WeightsMustFitTheirConfig) {
  EXPECT_THAT(problem_of(parse(kSwitch), {.overrides = {"model.d_ff=16"}}),
              HasSubstr("the weights don't fit their config"));
  EXPECT_THAT(problem_of(parse(kSwitch), {.overrides = {"model.encoder_layers=4"}}),
              HasSubstr("encoder.block.3"));
}

}  // namespace
}  // namespace switchyard::test
