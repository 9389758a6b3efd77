// Converted models compute what the originals compute, and upcycled ones what the dense model does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conversion/directories.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

Ids random_ids(int64_t count, int64_t length, int64_t vocabulary) {
  Ids ids{.count = count, .length = length};
  for (int64_t i = 0; i < count * length; ++i) {
    ids.ids.push_back(static_cast<int32_t>((i * 7 + i * i % 11 + 3) % vocabulary));
  }
  return ids;
}

// --- Logits of the goldens, config and weights both from the library.

std::vector<float> golden_logits(const Path& path, const GoldenTensors& golden) {
  const ModelSource source = open_foreign(path, {"train.batch_sequences=8"});
  ConfiguredModel model = make_reference_model(source.config, source.vocabulary);
  fill_weights(source, model.model().weights());
  const auto ids = [&](const std::string& name, const std::string& mask) {
    const Shape shape = golden.shape(name);
    return Ids{shape[0], shape[1], golden.integers(name),
               mask.empty() ? std::vector<int32_t>() : golden.integers(mask)};
  };
  if (source.config.model.is_decoder_only()) {
    const Shape shape = golden.shape("packed.input_ids");
    Ids first{1, 0, {}};  // the last row is one document
    const auto all = golden.integers("packed.input_ids");
    first.length = shape[1];
    first.ids.assign(all.end() - shape[1], all.end());
    return logits_of(model, {}, first);
  }
  return logits_of(model, ids("input_ids", "attention_mask"), ids("decoder_input_ids", ""));
}

std::vector<double> reference_logits(const GoldenTensors& golden, bool decoder_only) {
  if (!decoder_only) return golden.floats("logits");
  const std::vector<double> all = golden.floats("packed.logits");
  return {all.begin() + static_cast<ptrdiff_t>(all.size() / 3 * 2), all.end()};
}

double golden_difference(const Path& path, const std::string& folder) {
  const GoldenTensors golden(folder + "/golden.safetensors");
  const bool decoder_only = folder.find("decoder") != std::string::npos;
  return difference(golden_logits(path, golden), reference_logits(golden, decoder_only));
}

TEST(Converted, ComputeWhatTransformersDoes) {
  for (const char* const folder : {"switch_full", "decoder/mixtral", "decoder/olmoe",
                                   "decoder/qwen3_moe", "t5/relu", "t5/gated_gelu"}) {
    EXPECT_LT(golden_difference(golden_path(folder), folder), 1e-5) << folder;
    // And so they do after a way through a checkpoint.
    const TemporaryDirectory directory;
    convert_quietly(golden_path(folder), directory.path() / "ours", ModelFormat::kSwitchyard);
    convert_quietly(directory.path() / "ours", directory.path() / "theirs",
                    ModelFormat::kHuggingFace);
    EXPECT_LT(golden_difference(directory.path() / "theirs", folder), 1e-5) << folder;
  }
}

// Mistakes that no name or shape shows change the logits, so that the test above can fail.
TEST(Converted, SwappedWeightsShow) {
  const auto swapped = [](const std::string& folder, const std::string& one,
                          const std::string& other) {
    ForeignModel model = ForeignModel::read(golden_path(folder));
    std::swap(model.tensors.at(one), model.tensors.at(other));
    const TemporaryDirectory directory;
    model.write(directory.path() / "swapped");
    return golden_difference(directory.path() / "swapped", folder);
  };
  const std::string expert = "model.layers.0.block_sparse_moe.experts.";
  for (int e = 0; e < 5; ++e) {
    const std::string at = expert + std::to_string(e);
    if (swapped("decoder/mixtral", at + ".w1.weight", at + ".w3.weight") > 1e-3) return;
  }
  FAIL() << "no expert's w1 and w3 make a difference";
}

TEST(Converted, SwappedStacksShow) {
  ForeignModel model = ForeignModel::read(golden_path("switch_full"));
  std::swap(
      model.tensors.at("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
      model.tensors.at("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"));
  const TemporaryDirectory directory;
  model.write(directory.path() / "swapped");
  EXPECT_GT(golden_difference(directory.path() / "swapped", "switch_full"), 1e-3);
}

// --- Upcycling.

const char* const kDenseT5 =
    "model: {d_model: 12, heads: 2, d_kv: 6, d_ff: 20, encoder_layers: 3, decoder_layers: 2, "
    "init_scale: 1}\nmoe: {encoder: {layers: none}, decoder: {layers: none}}\n";
const char* const kDenseDecoder =
    "data: {task: causal, length: 16}\nmodel: {type: decoder_lm, d_model: 12, heads: 2, d_ff: 20, "
    "layers: 3, activation: swiglu, dropout: 0, init_deviation: 0.3}\nmoe: {layers: none}\n";
constexpr int64_t kVocabulary = 16;

class Upcycle : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    dense_ = std::make_unique<ConfiguredModel>(
        make_reference_kernels(), parse(GetParam(), {"train.batch_sequences=4"}), kVocabulary);
    save(*dense_, path("dense"));
  }
  Path path(const std::string& name) const { return directory_.path() / name; }
  bool decoder_only() const { return dense_->config().model.is_decoder_only(); }

  Conversion upcycle(const std::string& options, const std::string& to,
                     const std::vector<std::string>& overrides = {}) const {
    return convert_quietly(path("dense") / "step-00000003", path(to), ModelFormat::kSwitchyard,
                           {.upcycle = parse_upcycle(options), .overrides = overrides});
  }
  std::unique_ptr<ConfiguredModel> load(const std::string& name) const {
    const Checkpoint checkpoint = Checkpoint::open(path(name));
    auto model = std::make_unique<ConfiguredModel>(
        make_reference_kernels(), parse(checkpoint.read_file("config.yaml")), kVocabulary);
    const auto world = make_single_collectives();
    checkpoint.load(model->model().weights(), *world);
    return model;
  }
  std::vector<float> logits(ConfiguredModel& model) const {
    const Ids ids = random_ids(4, 8, kVocabulary);
    if (decoder_only()) return logits_of(model, {}, ids);
    return logits_of(model, ids, random_ids(4, 5, kVocabulary));
  }
  double difference_to_dense(const std::string& name) const {
    const std::vector<float> wanted = logits(*dense_);
    return difference(logits(*load(name)), {wanted.begin(), wanted.end()});
  }

  TemporaryDirectory directory_;
  std::unique_ptr<ConfiguredModel> dense_;
};

// For every K whose weights sum to 1 nothing changes, to rounding.
TEST_P(Upcycle, KeepsTheFunctionWhereWeightsSumTo1) {
  for (const int k : {2, 3, 4}) {
    const std::string name = "top_" + std::to_string(k);
    const Conversion done = upcycle("experts=4,layers=all,top_k=" + std::to_string(k), name);
    EXPECT_THAT(done.notes.back(), HasSubstr("is the dense model's"));
    EXPECT_LT(difference_to_dense(name), 1e-5) << k;
  }
  upcycle("experts=4,router=gshard", "gshard");
  EXPECT_LT(difference_to_dense("gshard"), 1e-5);
}

// With raw probabilities it does, and the program says so.
TEST_P(Upcycle, SaysWhereTheFunctionChanges) {
  const Conversion done = upcycle("experts=4,layers=all,router=switch", "switch");
  EXPECT_THAT(done.notes.back(), HasSubstr("isn't the dense model's"));
  EXPECT_GT(difference_to_dense("switch"), 1e-2);
  const std::string router = decoder_only() ? "moe.router" : "moe.encoder.router";
  EXPECT_THAT(upcycle("experts=4,layers=all", "raw", {router + ".normalize=false"}).notes.back(),
              HasSubstr("isn't the dense model's"));
  EXPECT_GT(difference_to_dense("raw"), 1e-2);
}

TEST_P(Upcycle, CopiesExpertsAndStartsRoutersAsModelsDo) {
  const Conversion done = upcycle("experts=3,layers=[1]", "mixture", {"seed=7"});
  const auto model = load("mixture");
  EXPECT_EQ(model->config().seed, 7);
  const auto mixture = bytes_of(*model), dense = bytes_of(*dense_);
  ConfiguredModel fresh = make_reference_model(model->config(), kVocabulary);
  const auto started = bytes_of(fresh);
  size_t experts = 0, routers = 0, same = 0;
  for (const auto& [name, bytes] : mixture) {
    const size_t at = name.find(".moe.expert.");
    if (at != std::string::npos) {
      ++experts;
      const std::string network = name.substr(0, at) + ".ffn" + name.substr(name.rfind('.'));
      EXPECT_TRUE(dense.at(network) == bytes) << name;
    } else if (name.ends_with(".moe.router")) {
      ++routers;
      EXPECT_TRUE(started.at(name) == bytes) << name;
    } else {
      ++same;
      EXPECT_TRUE(dense.at(name) == bytes) << name;
    }
  }
  const size_t stacks = decoder_only() ? 1 : 2, matrices = decoder_only() ? 3 : 2;
  EXPECT_EQ(routers, stacks);
  EXPECT_EQ(experts, 3 * stacks * matrices);
  EXPECT_EQ(same, dense.size() - stacks * matrices);
  EXPECT_THAT(done.ledger.summary(), HasSubstr(std::to_string(routers) + " of them fresh"));
  // By the seed, and by nothing else.
  upcycle("experts=3,layers=[1]", "again", {"seed=7"});
  EXPECT_TRUE(bytes_of(*load("again")) == mixture);
  upcycle("experts=3,layers=[1]", "other", {"seed=8"});
  EXPECT_FALSE(bytes_of(*load("other")) == mixture);
}

TEST_P(Upcycle, RefusesWhatMakesNoSense) {
  upcycle("experts=3", "mixture");
  EXPECT_THAT(error_of([&] {
                convert_quietly(path("mixture"), path("twice"), ModelFormat::kSwitchyard,
                                {.upcycle = parse_upcycle("experts=2")});
              }),
              HasSubstr("has mixtures of experts already"));
  const std::pair<const char*, const char*> wrong[] = {
      {"experts", "no KEY=VALUE"},           {"experts=many", "no whole number"},
      {"expert=3", "no option 'expert'"},    {"layers=[1,2", "left open"},
      {"experts=1", "needs 2 experts"},      {"experts=4,layers=[9]", "layer 9"},
      {"experts=4,router=none", "none"},     {"experts=4,router=soft", "soft"},
      {"experts=4,top_k=1", "the weight 1"},
  };
  for (const auto& [options, says] : wrong) {
    EXPECT_THAT(error_of([&] { upcycle(options, "wrong"); }), HasSubstr(says)) << options;
    EXPECT_FALSE(std::filesystem::exists(path("wrong")));
  }
}

std::string name_of_dense(const testing::TestParamInfo<const char*>& info) {
  return info.index == 0 ? "t5" : "decoder";
}
INSTANTIATE_TEST_SUITE_P(Models, Upcycle, testing::Values(kDenseT5, kDenseDecoder), name_of_dense);

// A dense T5 of Hugging Face becomes a Switch Transformer there, in one step.
TEST(UpcycleT5, ToASwitchTransformerOfHuggingFace) {
  const TemporaryDirectory directory;
  ConfiguredModel dense = make_reference_model(parse(kDenseT5), kVocabulary);
  const Path saved = save(dense, directory.path() / "run");
  const Path t5 = directory.path() / "t5", mixture = directory.path() / "switch";
  convert_quietly(saved, t5, ModelFormat::kHuggingFace, {.dtype = StoredType::kBF16});
  convert_quietly(t5, mixture, ModelFormat::kHuggingFace,
                  {.upcycle = parse_upcycle("experts=4,router=switch")});
  const ForeignModel before = ForeignModel::read(t5), after = ForeignModel::read(mixture);
  EXPECT_EQ(after.config["model_type"], "switch_transformers");
  EXPECT_EQ(after.config["expert_capacity"], int64_t{1} << 30);
  EXPECT_TRUE(before.tensors.at("encoder.block.1.layer.1.DenseReluDense.wi.weight") ==
              after.tensors.at("encoder.block.1.layer.1.mlp.experts.expert_3.wi.weight"));
  // A fresh router has the type of its block.
  EXPECT_EQ(after.tensors.at("encoder.block.1.layer.1.mlp.router.classifier.weight").type,
            StoredType::kBF16);
}

}  // namespace
}  // namespace switchyard::test
