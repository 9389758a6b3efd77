// Models of Hugging Face through a checkpoint and back: every byte, every key that means something,
// and every mistake that someone could make on the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "checkpoint/manifest.h"
#include "conversion/directories.h"
#include "conversion/model_tensors.h"
#include "conversion/tensor_match.h"
#include "conversion/tensor_names.h"
#include "safetensors/elements.h"

namespace switchyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const char* const kModels[] = {"switch_full",
                               "decoder/mixtral",
                               "decoder/olmoe",
                               "decoder/qwen3_moe",
                               "t5/relu",
                               "t5/gated_gelu",
                               "saved/t5_float16",
                               "saved/mixtral_bfloat16",
                               "saved/olmoe_float16",
                               "saved/qwen3_moe_bfloat16",
                               "saved/switch_bfloat16"};

class RoundTrip : public testing::TestWithParam<const char*> {
 protected:
  Path golden() const { return golden_path(GetParam()); }
  Path path(const std::string& name) const { return directory_.path() / name; }

  TemporaryDirectory directory_;
};

TEST_P(RoundTrip, GivesEveryByteBack) {
  const Conversion there = convert_quietly(golden(), path("ours"), ModelFormat::kSwitchyard);
  const Conversion back = convert_quietly(path("ours"), path("theirs"), ModelFormat::kHuggingFace);
  const ForeignModel before = ForeignModel::read(golden()),
                     after = ForeignModel::read(path("theirs"));
  ASSERT_EQ(after.tensors.size(), before.tensors.size());
  for (const auto& [name, tensor] : before.tensors) {
    ASSERT_TRUE(after.tensors.contains(name)) << name;
    EXPECT_TRUE(after.tensors.at(name) == tensor) << name;
  }
  EXPECT_EQ(there.ledger.lines.size(), before.tensors.size());
  EXPECT_EQ(back.ledger.lines.size(), before.tensors.size());
  // The header too is as transformers writes it.
  const Path single = golden() / "model.safetensors";
  if (std::filesystem::exists(single)) {
    EXPECT_TRUE(read_text(single) == read_text(path("theirs/model.safetensors")));
  }
}

// What config.json said is said again: keys that it doesn't have now mean what they meant.
TEST_P(RoundTrip, ConfigMeansTheSame) {
  convert_quietly(golden(), path("ours"), ModelFormat::kSwitchyard);
  convert_quietly(path("ours"), path("theirs"), ModelFormat::kHuggingFace);
  const auto meaning = [](const Path& at) {
    return to_yaml(open_foreign(at, {"name=x", "data.dir=x"}).config);
  };
  EXPECT_EQ(meaning(golden()), meaning(path("theirs")));
  const nlohmann::json before = ForeignModel::read(golden()).config;
  const nlohmann::json after = ForeignModel::read(path("theirs")).config;
  for (const auto& [key, value] : before.items()) {
    // Of no meaning, or said by another key.
    const std::set<std::string> lost = {"dtype",
                                        "use_cache",
                                        "bos_token_id",
                                        "classifier_dropout",
                                        "intermediate_size",
                                        "num_sparse_decoder_layers"};
    if (lost.contains(key)) continue;
    ASSERT_TRUE(after.contains(key)) << key;
    EXPECT_EQ(after[key], value) << key;
  }
  EXPECT_EQ(after["torch_dtype"], before.value("torch_dtype", before.value("dtype", "")));
}

// The checkpoint is one that training starts from.
TEST_P(RoundTrip, CheckpointLoadsIntoItsOwnConfig) {
  convert_quietly(golden(), path("ours"), ModelFormat::kSwitchyard);
  const Checkpoint checkpoint = Checkpoint::open(path("ours"));
  const Config config = parse(checkpoint.read_file("config.yaml"));
  EXPECT_EQ(config.name, "ours");
  const ModelSource source = open_foreign(golden());
  ConfiguredModel loaded = make_reference_model(config, source.vocabulary);
  ConfiguredModel filled = make_reference_model(config, source.vocabulary);
  const auto world = make_single_collectives();
  checkpoint.load(loaded.model().weights(), *world);
  fill_weights(source, filled.model().weights());
  EXPECT_TRUE(bytes_of(loaded) == bytes_of(filled));
}

TEST_P(RoundTrip, ShardsAsAskedFor) {
  const ForeignModel before = ForeignModel::read(golden());
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : before.tensors) bytes += tensor.bytes.size();
  const uint64_t most = bytes / 4;
  convert_quietly(golden(), path("sharded"), ModelFormat::kHuggingFace, {.max_file_bytes = most});
  const ForeignModel after = ForeignModel::read(path("sharded"));
  EXPECT_TRUE(after.tensors == before.tensors);
  const auto index = nlohmann::json::parse(read_text(path("sharded/model.safetensors.index.json")));
  EXPECT_EQ(index["metadata"]["total_size"], bytes);
  const SafetensorsSet set = SafetensorsSet::open(path("sharded"));
  EXPECT_GT(set.files().size(), 3u);
  for (const SafetensorsFile& file : set.files()) {
    uint64_t in_file = 0;
    for (const StoredTensor& tensor : file.tensors()) in_file += tensor.size_bytes();
    EXPECT_LE(in_file, most);
  }
  // And the checkpoint too, read back from its pieces.
  convert_quietly(path("sharded"), path("ours"), ModelFormat::kSwitchyard,
                  {.max_file_bytes = most * 2});
  convert_quietly(path("ours"), path("theirs"), ModelFormat::kHuggingFace);
  EXPECT_TRUE(ForeignModel::read(path("theirs")).tensors == before.tensors);
}

std::string name_of_model(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '/', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, RoundTrip, testing::ValuesIn(kModels), name_of_model);

// --- Types.

// To the nearest, ties to even, by whole numbers of the result's spacing: nothing of the library.
double rounded(double number, int fraction_bits, int least_exponent) {
  if (number == 0) return number;
  int exponent = 0;
  std::frexp(number, &exponent);
  const double spacing = std::ldexp(1.0, std::max(exponent - 1, least_exponent) - fraction_bits);
  return std::nearbyint(number / spacing) * spacing;
}

TEST(Types, AreRoundedToTheNearest) {
  const TemporaryDirectory directory;
  const Path golden = golden_path("decoder/mixtral");
  const auto numbers = [](const Path& path, const std::string& name) {
    const SafetensorsSet set = SafetensorsSet::open(path);
    const SafetensorsFile& file = set.file_of(name);
    const StoredTensor& tensor = file.tensor(name);
    std::vector<double> all(tensor.size_bytes() * 8 / static_cast<uint64_t>(bits_of(tensor.type)));
    to_float64(tensor.type, file.data(name).data(), all.size(), all.data());
    return all;
  };
  const auto check = [&](StoredType type, int fraction_bits, int least_exponent) {
    const Path to = directory.path() / std::string(name_of(type));
    const Conversion done = convert_quietly(golden, to, ModelFormat::kHuggingFace, {.dtype = type});
    for (const LedgerLine& line : done.ledger.lines) {
      ASSERT_EQ(line.written, type);
      const std::vector<double> before = numbers(golden, line.source);
      const std::vector<double> after = numbers(to, line.target);
      for (size_t i = 0; i < before.size(); ++i) {
        ASSERT_EQ(after[i], rounded(before[i], fraction_bits, least_exponent)) << line.target;
      }
    }
  };
  check(StoredType::kBF16, 7, -126);
  check(StoredType::kF16, 10, -14);
  // Widening is exact, so there and back gives the same bytes.
  convert_quietly(directory.path() / "BF16", directory.path() / "wide", ModelFormat::kSwitchyard,
                  {.dtype = StoredType::kF32});
  convert_quietly(directory.path() / "wide", directory.path() / "back", ModelFormat::kHuggingFace,
                  {.dtype = StoredType::kBF16});
  EXPECT_TRUE(ForeignModel::read(directory.path() / "back").tensors ==
              ForeignModel::read(directory.path() / "BF16").tensors);
  EXPECT_EQ(ForeignModel::read(directory.path() / "back").config["torch_dtype"], "bfloat16");
}

TEST(Types, NumbersTooLargeForFloat16AreRefused) {
  const TemporaryDirectory directory;
  ForeignModel model = ForeignModel::read(golden_path("decoder/mixtral"));
  const float large = 70'000;
  std::memcpy(model.tensors["model.norm.weight"].bytes.data(), &large, sizeof large);
  model.write(directory.path() / "large");
  const auto to_float16 = [&](const char* to) {
    convert_quietly(directory.path() / "large", directory.path() / to, ModelFormat::kHuggingFace,
                    {.dtype = StoredType::kF16});
  };
  EXPECT_THAT(error_of([&] { to_float16("half"); }),
              AllOf(HasSubstr("model.norm.weight"), HasSubstr("too large for F16")));
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    left.push_back(entry.path().filename());
  }
  EXPECT_THAT(left, testing::ElementsAre("large"));
}

// --- Other forms of the same weights.

class Forms : public testing::Test {
 protected:
  Path path(const std::string& name) const { return directory_.path() / name; }
  Conversion to_ours(const ForeignModel& model, const std::string& name) const {
    model.write(path(name));
    return convert_quietly(path(name), path(name + "-ours"), ModelFormat::kSwitchyard);
  }
  // What is wrong with the model; empty: nothing.
  std::string problem_of(const ForeignModel& model, const std::string& name) const {
    const std::string problem = error_of([&] { to_ours(model, name); });
    EXPECT_EQ(problem.empty(), std::filesystem::exists(path(name + "-ours")));
    return problem;
  }

  const ForeignModel switch_ = ForeignModel::read(golden_path("switch_full"));
  const ForeignModel mixtral_ = ForeignModel::read(golden_path("decoder/mixtral"));
  TemporaryDirectory directory_;
};

// Each of the four names of a tied embedding will do; several must be equal.
TEST_F(Forms, NamesOfATiedEmbedding) {
  const std::vector<std::string> names = {"shared.weight", "encoder.embed_tokens.weight",
                                          "decoder.embed_tokens.weight", "lm_head.weight"};
  to_ours(switch_, "plain");
  const std::string plain = read_text(path("plain-ours/model-00001-of-00001.safetensors"));
  ASSERT_FALSE(plain.empty());
  const auto embedding = switch_.tensors.at("shared.weight");
  for (const std::string& name : names) {
    ForeignModel model = switch_;
    model.tensors.erase("shared.weight");
    model.tensors[name] = embedding;
    to_ours(model, name);
    EXPECT_TRUE(read_text(path(name + "-ours/model-00001-of-00001.safetensors")) == plain) << name;
  }
  ForeignModel all = switch_;
  for (const std::string& name : names) all.tensors[name] = embedding;
  const Conversion done = to_ours(all, "all");
  EXPECT_TRUE(read_text(path("all-ours/model-00001-of-00001.safetensors")) == plain);
  EXPECT_EQ(done.ledger.left_out.size(), 3u);
  EXPECT_THAT(done.ledger.summary(),
              AllOf(HasSubstr("lm_head.weight: the head is the embedding (equal to shared.weight)"),
                    HasSubstr("3 left out")));
  convert_quietly(path("all-ours"), path("all-theirs"), ModelFormat::kHuggingFace);
  EXPECT_TRUE(ForeignModel::read(path("all-theirs")).tensors == switch_.tensors);

  all.tensors["decoder.embed_tokens.weight"].bytes[7] ^= std::byte{1};
  EXPECT_THAT(problem_of(all, "unequal"),
              AllOf(HasSubstr("unequal where one is the other"),
                    HasSubstr("decoder.embed_tokens.weight and shared.weight")));
  for (const std::string& name : names) all.tensors.erase(name);
  EXPECT_THAT(problem_of(all, "none"), HasSubstr("1 tensor missing: shared.weight"));
}

// Without tying the head is its own.
TEST_F(Forms, UntiedHead) {
  ForeignModel model = switch_;
  model.config["tie_word_embeddings"] = false;
  EXPECT_THAT(problem_of(model, "headless"), HasSubstr("1 tensor missing: lm_head.weight"));
  model.tensors["lm_head.weight"] = model.tensors["shared.weight"];
  model.tensors["lm_head.weight"].bytes[0] ^= std::byte{1};
  to_ours(model, "untied");
  convert_quietly(path("untied-ours"), path("untied-theirs"), ModelFormat::kHuggingFace);
  EXPECT_TRUE(ForeignModel::read(path("untied-theirs")).tensors == model.tensors);
  EXPECT_EQ(ForeignModel::read(path("untied-theirs")).config["tie_word_embeddings"], false);
}

// The names of transformers 5: experts stacked, gate before up.
ForeignModel stacked(const ForeignModel& model, const std::string& theirs, const std::string& gate,
                     const std::string& up, const std::string& down) {
  ForeignModel later = model;
  const int64_t experts = model.config.contains("num_experts")
                              ? model.config["num_experts"].get<int64_t>()
                              : model.config["num_local_experts"].get<int64_t>();
  for (int64_t layer = 0; layer < model.config["num_hidden_layers"]; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    const auto all = static_cast<uint64_t>(experts);
    ForeignModel::Tensor gate_up, downs;
    for (int64_t e = 0; e < experts; ++e) {
      const std::string expert = at + theirs + "experts." + std::to_string(e) + ".";
      for (const std::string& part : {gate, up, down}) {
        ForeignModel::Tensor& stack = part == down ? downs : gate_up;
        const auto& tensor = model.tensors.at(expert + part + ".weight");
        stack.bytes.insert(stack.bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
        stack.shape = {all, tensor.shape[0] * (part == down ? 1 : 2), tensor.shape[1]};
        later.tensors.erase(expert + part + ".weight");
      }
    }
    later.tensors[at + "mlp.experts.gate_up_proj"] = gate_up;
    later.tensors[at + "mlp.experts.down_proj"] = downs;
    auto router = later.tensors.extract(at + theirs + "gate.weight");
    router.key() = at + "mlp.gate.weight";
    later.tensors.insert(std::move(router));
  }
  return later;
}

TEST_F(Forms, StackedExpertsOfTransformers5) {
  ForeignModel later = stacked(mixtral_, "block_sparse_moe.", "w1", "w3", "w2");
  later.config.erase("rope_theta");
  later.config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_THAT(to_ours(later, "mixtral").ledger.summary(), HasSubstr("a part each"));
  convert_quietly(path("mixtral-ours"), path("mixtral-theirs"), ModelFormat::kHuggingFace);
  EXPECT_TRUE(ForeignModel::read(path("mixtral-theirs")).tensors == mixtral_.tensors);
  EXPECT_EQ(ForeignModel::read(path("mixtral-theirs")).config["rope_theta"], 1e6);

  const ForeignModel olmoe = ForeignModel::read(golden_path("decoder/olmoe"));
  to_ours(stacked(olmoe, "mlp.", "gate_proj", "up_proj", "down_proj"), "olmoe");
  convert_quietly(path("olmoe-ours"), path("olmoe-theirs"), ModelFormat::kHuggingFace);
  EXPECT_TRUE(ForeignModel::read(path("olmoe-theirs")).tensors == olmoe.tensors);

  // Both forms at once contradict each other, and a stack of another number of experts is refused.
  ForeignModel both = later;
  const std::string expert = "model.layers.1.block_sparse_moe.experts.0.w1.weight";
  both.tensors[expert] = mixtral_.tensors.at(expert);
  EXPECT_THAT(problem_of(both, "both"), HasSubstr("there in two forms"));
  later.config["num_local_experts"] = 4;
  EXPECT_THAT(problem_of(later, "fewer"), HasSubstr("of another shape"));
}

// T5's first checkpoints have a position bias of cross-attention, which nothing uses.
TEST_F(Forms, WhatTransformersDoesNotUse) {
  ForeignModel model = switch_;
  const std::string unused =
      "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";
  model.tensors[unused] =
      model.tensors.at("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
  EXPECT_THAT(problem_of(model, "switch"), HasSubstr("1 tensor that the model does not have"));
}

// --- Planted mistakes: each is found, by its name, and nothing is left behind.

TEST_F(Forms, AnExpertIsMissing) {
  ForeignModel model = mixtral_;
  model.tensors.erase("model.layers.1.block_sparse_moe.experts.3.w2.weight");
  EXPECT_THAT(problem_of(model, "one"),
              HasSubstr("1 tensor missing: model.layers.1.block_sparse_moe.experts.3.w2.weight"));
  // All of them, as a converter once left out without a word.
  for (const auto& [name, tensor] : mixtral_.tensors) {
    if (name.find(".experts.") != std::string::npos) model.tensors.erase(name);
  }
  EXPECT_THAT(problem_of(model, "all"), HasSubstr("30 tensors missing"));
}

TEST_F(Forms, APositionBiasInEveryBlock) {
  ForeignModel model = switch_;
  const auto bias =
      model.tensors.at("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
  for (const char* const block : {"1", "2", "3"}) {
    model.tensors[std::string("encoder.block.") + block +
                  ".layer.0.SelfAttention.relative_attention_bias.weight"] = bias;
  }
  EXPECT_THAT(problem_of(model, "all"), HasSubstr("3 tensors that the model does not have"));
  model.tensors.erase("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
  model.tensors.erase("encoder.block.2.layer.0.SelfAttention.relative_attention_bias.weight");
  model.tensors.erase("encoder.block.3.layer.0.SelfAttention.relative_attention_bias.weight");
  EXPECT_THAT(problem_of(model, "one"), AllOf(HasSubstr("1 tensor missing: encoder.block.0"),
                                              HasSubstr("does not have: encoder.block.1")));
}

TEST_F(Forms, AGateIsTransposed) {
  ForeignModel model = mixtral_;
  std::swap(model.tensors["model.layers.0.block_sparse_moe.gate.weight"].shape[0],
            model.tensors["model.layers.0.block_sparse_moe.gate.weight"].shape[1]);
  EXPECT_THAT(problem_of(model, "gate"),
              HasSubstr("1 tensor of another shape: model.layers.0.block_sparse_moe.gate.weight "
                        "([24, 5] stored, [5, 24] wanted)"));
}

TEST_F(Forms, ATensorTooMany) {
  ForeignModel model = switch_;
  model.tensors["encoder.block.0.layer.1.mlp.wi.bias"] =
      model.tensors.at("encoder.final_layer_norm.weight");
  EXPECT_THAT(
      problem_of(model, "extra"),
      HasSubstr("1 tensor that the model does not have: encoder.block.0.layer.1.mlp.wi.bias"));
}

TEST_F(Forms, AnotherNumberOfLayersOrAWrongShape) {
  ForeignModel model = mixtral_;
  model.config["num_hidden_layers"] = 1;
  EXPECT_THAT(problem_of(model, "layers"), HasSubstr("22 tensors that the model does not have"));
  model = mixtral_;
  model.config["num_key_value_heads"] = 4;
  EXPECT_THAT(problem_of(model, "heads"), HasSubstr("4 tensors of another shape"));
  model = mixtral_;
  model.tensors["model.norm.weight"].type = StoredType::kI32;
  EXPECT_THAT(problem_of(model, "integers"),
              HasSubstr("1 tensor of a type that isn't converted: model.norm.weight (I32)"));
}

TEST_F(Forms, AShardIsCutShortOrMissing) {
  convert_quietly(golden_path("decoder/mixtral"), path("sharded"), ModelFormat::kHuggingFace,
                  {.max_file_bytes = 30'000});
  const auto convert_it = [&] {
    convert_quietly(path("sharded"), path("ours"), ModelFormat::kSwitchyard);
  };
  Path second;
  for (const auto& entry : std::filesystem::directory_iterator(path("sharded"))) {
    if (entry.path().filename().string().starts_with("model-00002")) second = entry.path();
  }
  const std::string bytes = read_text(second);
  ASSERT_FALSE(bytes.empty());
  std::ofstream(second, std::ios::binary) << bytes.substr(0, bytes.size() - 4);
  EXPECT_THAT(error_of(convert_it), HasSubstr(second.filename().string()));
  std::filesystem::remove(second);
  EXPECT_THAT(error_of(convert_it), HasSubstr(second.filename().string()));
  EXPECT_FALSE(std::filesystem::exists(path("ours")));
  // A tensor that the index leaves out is no matter for a warning.
  std::ofstream(second, std::ios::binary) << bytes;
  const Path index = path("sharded") / "model.safetensors.index.json";
  nlohmann::json map = nlohmann::json::parse(read_text(index));
  map["weight_map"].erase("model.layers.0.input_layernorm.weight");
  std::ofstream(index) << map.dump();
  EXPECT_THAT(error_of(convert_it),
              AllOf(HasSubstr("that the index doesn't name for them"),
                    HasSubstr("1 tensor missing: model.layers.0.input_layernorm.weight")));
}

TEST_F(Forms, WhatIsThereAlreadyStays) {
  const Path there = path("there");
  std::filesystem::create_directories(there);
  for (const ModelFormat format : {ModelFormat::kSwitchyard, ModelFormat::kHuggingFace}) {
    EXPECT_THAT(error_of([&] { convert_quietly(golden_path("switch_full"), there, format); }),
                HasSubstr("there is something of that name already"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(there));
}

// --- Names.

// The tensors that conversion expects are those that models have, for every kind of model.
TEST(Names, AreThoseOfModels) {
  const std::string dense =
      "data: {task: causal}\nmodel: {type: decoder_lm, d_model: 8, heads: 2, "
      "d_ff: 12, layers: 3";
  const std::string t5 =
      "model: {d_model: 8, heads: 2, d_kv: 4, d_ff: 12, encoder_layers: 3, decoder_layers: 2";
  const std::string configs[] = {
      t5 + "}\nmoe: {experts: 3}\n",
      t5 + ", activation: geglu, tie_embeddings: false}\nmoe: {encoder: {layers: none}, "
           "decoder: {layers: [0], router: {type: top_k, bias_update_rate: 0.1}, pyramid: [{layer: "
           "0, experts: 5}]}}\n",
      dense +
          ", kv_heads: 1, qk_norm: per_head, tie_embeddings: true, activation: swiglu}\n"
          "moe: {layers: [1], experts: 4, router: {type: top_k}}\n",
      dense +
          ", qk_norm: whole, activation: relu, tie_embeddings: false}\n"
          "moe: {layers: all, experts: 2, router: {type: gshard}}\n",
      dense + "}\nmoe: {layers: all, experts: 2, router: {type: hash}}\n",
      dense + "}\nmoe: {layers: none}\n",
  };
  for (const std::string& yaml : configs) {
    const Config config = parse(yaml);
    ConfiguredModel model = make_reference_model(config, 16);
    const TemporaryDirectory directory;
    const Checkpoint saved = Checkpoint::open(save(model, directory.path()));
    std::map<std::string, std::vector<uint64_t>> there, expected;
    for (const ManifestTensor& tensor : saved.manifest().tensors) {
      there[tensor.name] = tensor.shape;
    }
    for (const TensorSpec& spec : model_tensors(config, 16)) expected[spec.name] = spec.shape;
    EXPECT_EQ(there, expected) << yaml;
  }
}

// No two tensors of a model have one name there.
TEST(Names, AreDifferentForDifferentTensors) {
  for (const char* const golden : kModels) {
    const ModelSource source = open_foreign(golden_path(golden));
    std::set<std::string> origins;
    for (const SourceTensor& tensor : source.tensors) {
      EXPECT_TRUE(origins.insert(tensor.origin).second) << tensor.origin;
    }
  }
}

}  // namespace
}  // namespace switchyard::test
