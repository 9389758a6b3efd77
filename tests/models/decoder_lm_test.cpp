// Decoder-only models: against transformers' Mixtral, OLMoE and Qwen3-MoE, by finite differences,
// with packed rows, and generated token by token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "config/resolve.h"
#include "conversion/model_source.h"
#include "models/decoder_lm.h"
#include "models/hf_model.h"
#include "registry/choices.h"
#include "registry/make_model.h"
#include "support/configured_model.h"
#include "support/finite_differences.h"

namespace switchyard::test {
namespace {

// The model of a config on one rank, computed with `arithmetic`.
class ModelUnderTest : public ConfiguredModel {
 public:
  ModelUnderTest(const Arithmetic& arithmetic, Config config, int64_t vocabulary)
      : ConfiguredModel(arithmetic.make_kernels(), in(arithmetic, std::move(config)), vocabulary) {}
  ModelUnderTest(const Arithmetic& arithmetic, const std::string& yaml, int64_t vocabulary)
      : ModelUnderTest(arithmetic, parse_config(yaml, "test.yaml", {}, choice_tables()),
                       vocabulary) {}

  DecoderLm& decoder_lm() { return dynamic_cast<DecoderLm&>(model()); }

 private:
  static Config in(const Arithmetic& arithmetic, Config config) {
    config.train.precision = arithmetic.dtype == DType::kFloat64 ? TrainConfig::Precision::kFloat64
                                                                 : TrainConfig::Precision::kFloat32;
    return config;
  }
};

// Sequences as a decoder-only model reads them.
class DecoderBatch {
 public:
  DecoderBatch(const GlobalBatch& batch, const std::vector<int32_t>& targets, Memory& memory)
      : rows_(batch, memory), targets_(DType::kInt32, {batch.tokens()}, memory) {
    memory.copy_in(targets_.view().raw(), targets.data(), targets.size() * sizeof(int32_t));
    batch_.decoder = rows_.rows();
    batch_.targets = targets_;
  }
  // Makes each row several segments.
  void pack(const std::vector<int32_t>& segment, Memory& memory) {
    segment_ = Tensor(DType::kInt32, {batch_.decoder.sequences, batch_.decoder.length}, memory);
    memory.copy_in(segment_.view().raw(), segment.data(), segment.size() * sizeof(int32_t));
    batch_.decoder.segment = segment_;
    batch_.decoder.packed = true;
  }
  const ModelBatch& batch() const { return batch_; }

 private:
  BatchRows rows_;
  Tensor targets_, segment_;
  ModelBatch batch_;
};

// --- Parity with transformers: tests/golden/decoder.

struct HfDecoder {
  std::string folder;
};
void PrintTo(const HfDecoder& model, std::ostream* out) { *out << model.folder; }

constexpr int64_t kRows = 3, kLength = 10;

std::string file_of(const HfDecoder& model, const std::string& name) {
  return "decoder/" + model.folder + "/" + name;
}

nlohmann::json hf_config(const HfDecoder& model) {
  return golden_json(file_of(model, "config.json"));
}

int64_t experts_of(const nlohmann::json& hf) {
  return hf.contains("num_local_experts") ? hf["num_local_experts"] : hf["num_experts"];
}

//   load_balance  coefficient of the loss
ModelSource source_of(const HfDecoder& model, int load_balance = 1) {
  return open_hugging_face(golden_path("decoder/" + model.folder),
                           {fmt::format("moe.losses.load_balance={{coef: {}}}", load_balance)},
                           choice_tables(), FileSystem::real());
}

class DecoderParity : public testing::TestWithParam<std::tuple<Arithmetic, HfDecoder>> {
 protected:
  DecoderParity() : hf_(std::get<1>(GetParam())), golden_(file_of(hf_, "golden.safetensors")) {}
  void SetUp() override {
    if (!arithmetic().usable) GTEST_SKIP() << "not usable on this machine";
    const ModelSource source = source_of(hf_);
    model_.emplace(arithmetic(), source.config, source.vocabulary);
    fill_weights(source, model_->model().weights());
  }

  static const Arithmetic& arithmetic() { return std::get<0>(GetParam()); }
  std::string hf_name(const std::string& name) const {
    const Family family = *family_named(hf_config(hf_)["model_type"].get<std::string>());
    return hugging_face_name({.family = family}, name);
  }
  // The batch with padding; all its tokens are one routing group.
  DecoderBatch padded_batch() {
    const std::vector<int32_t> mask = golden_.integers("attention_mask");
    return {{.sequences = kRows,
             .length = kLength,
             .group_sequences = kRows,
             .real = std::vector<uint8_t>(mask.begin(), mask.end()),
             .ids = golden_.integers("input_ids"),
             .position = golden_.integers("position_ids")},
            golden_.integers("targets"),
            model_->memory()};
  }
  // Logits and a golden's with those of padding left out, which transformers routes.
  void expect_logits(const Numbers& actual, const Numbers& reference,
                     const std::vector<int32_t>& mask) const {
    const size_t vocabulary = actual.size() / mask.size();
    Numbers real, wanted;
    for (size_t i = 0; i < actual.size(); ++i) {
      if (mask[i / vocabulary] == 0) continue;
      real.push_back(actual[i]);
      wanted.push_back(reference[i]);
    }
    expect_close(real, wanted, 1e-5, "logits");
  }

  HfDecoder hf_;
  GoldenTensors golden_;
  std::optional<ModelUnderTest> model_;
};

TEST_P(DecoderParity, LogitsLossAndRouting) {
  const std::vector<int32_t> mask = golden_.integers("attention_mask");
  const nlohmann::json facts = golden_json(file_of(hf_, "golden.json"));
  const DecoderBatch batch = padded_batch();
  LayerContext ctx = model_->context();
  expect_logits(numbers_of(ctx, model_->model().logits(ctx, batch.batch())),
                golden_.floats("logits"), mask);
  const Numbers losses = numbers_of(ctx, model_->model().forward(ctx, batch.batch(), 0));
  double sum = 0;
  for (const double loss : losses) sum += loss;
  const std::vector<int32_t> targets = golden_.integers("targets");
  const auto ignored = std::ranges::count(targets, kIgnoredTarget);
  EXPECT_NEAR(sum / static_cast<double>(targets.size() - ignored), facts["loss"], 1e-5);

  const int64_t top_k = hf_config(hf_)["num_experts_per_tok"];
  const bool normalized = hf_config(hf_).value("norm_topk_prob", true);
  model_->model().observe(ctx, batch.batch());
  const auto mixtures = model_->decoder_lm().mixtures();
  for (size_t layer = 0; layer < mixtures.size(); ++layer) {
    const Numbers chosen = numbers_of(ctx, mixtures[layer]->expert);
    const Numbers weight = numbers_of(ctx, mixtures[layer]->routing->weight);
    const std::string prefix = std::to_string(layer) + ".router.";
    const std::vector<int32_t> wanted = golden_.integers(prefix + "chosen");
    const std::vector<double> logits = golden_.floats(prefix + "logits");
    const size_t experts = logits.size() / mask.size(), k = static_cast<size_t>(top_k);
    for (size_t t = 0; t < mask.size(); ++t) {
      if (mask[t] == 0) continue;
      double kept = 0, all = 0, weights = 0;
      for (size_t e = 0; e < experts; ++e) all += std::exp(logits[t * experts + e]);
      for (size_t c = t * k; c < (t + 1) * k; ++c) {
        EXPECT_EQ(chosen[c], wanted[c]) << "layer " << layer << ", token " << t;
        kept += std::exp(logits[t * experts + static_cast<size_t>(wanted[c])]);
        weights += weight[c];
      }
      // Softmax over all, then divided by the sum, is the softmax over the chosen logits.
      EXPECT_NEAR(weights, normalized ? 1.0 : kept / all, 1e-5);
      EXPECT_LE(weights, 1 + 1e-6);
      const double first = std::exp(logits[t * experts + static_cast<size_t>(wanted[t * k])]);
      EXPECT_NEAR(weight[t * k], first / (normalized ? kept : all), 1e-5);
    }
    // Their factor K: they add up the shares of each choice, each of which is 1 in all.
    EXPECT_NEAR(model_->model().moe_layers()[layer]->observation().load_balance *
                    static_cast<double>(top_k),
                facts["aux_per_layer"][layer], 2e-5);
  }
  model_->release();
}

TEST_P(DecoderParity, PackedDocumentsDoNotSeeEachOther) {
  const std::vector<int32_t> position = golden_.integers("packed.position_ids");
  std::vector<int32_t> segment;
  for (size_t i = 0; i < position.size(); ++i) {
    const bool first = i % kLength == 0;
    segment.push_back(first ? 1 : segment.back() + (position[i] == 0 ? 1 : 0));
  }
  DecoderBatch batch({.sequences = kRows,
                      .length = kLength,
                      .ids = golden_.integers("packed.input_ids"),
                      .position = position},
                     std::vector<int32_t>(position.size(), 1), model_->memory());
  batch.pack(segment, model_->memory());
  LayerContext ctx = model_->context();
  expect_close(numbers_of(ctx, model_->model().logits(ctx, batch.batch())),
               golden_.floats("packed.logits"), 1e-5, "logits");
  model_->release();
}

TEST_P(DecoderParity, Gradients) {
  const ModelSource source = source_of(hf_, 0);
  ModelUnderTest model(arithmetic(), source.config, source.vocabulary);
  const std::string file = file_of(hf_, "gradients.safetensors");
  const GoldenTensors golden(file);
  const DecoderBatch batch = padded_batch();
  const std::vector<int32_t> targets = golden_.integers("targets");
  const auto count =
      static_cast<int64_t>(targets.size()) - std::ranges::count(targets, kIgnoredTarget);
  fill_weights(source, model.model().weights());
  for (Weight* weight : model.model().weights()) weight->begin_step();
  LayerContext ctx = model.context(/*training=*/true);
  const double scale = 1.0 / static_cast<double>(count);
  model.model().forward(ctx, batch.batch(), scale);
  model.model().backward(ctx, batch.batch());
  size_t compared = 0;
  for (const NamedSlice& slice : slices_of(model.model().weights())) {
    const std::string name = "grad." + hf_name(slice.name);
    expect_close(numbers_of(ctx, slice.gradient()), golden.floats(name), 3e-5, name);
    ++compared;
  }
  EXPECT_EQ(compared, SafetensorsFile::open(golden_path(file)).tensors().size());
  model.release();
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderParity,
                         testing::Combine(testing::ValuesIn(arithmetics()),
                                          testing::Values(HfDecoder{"mixtral"}, HfDecoder{"olmoe"},
                                                          HfDecoder{"qwen3_moe"})),
                         [](const auto& all) {
                           return std::get<0>(all.param).name + "_" + std::get<1>(all.param).folder;
                         });

// What transformers adds to the loss where asked: the per-layer terms of all layers' tokens pooled.
// Ours is per layer (docs/semantics.md), so the pooled form stands here alone.
TEST(DecoderAuxiliaryLoss, PooledOverLayersAsTransformers) {
  const HfDecoder mixtral{"mixtral"};
  const GoldenTensors golden(file_of(mixtral, "golden.safetensors"));
  const nlohmann::json facts = golden_json(file_of(mixtral, "golden.json"));
  const auto experts = static_cast<size_t>(experts_of(hf_config(mixtral)));
  const std::vector<int32_t> mask = golden.integers("attention_mask");
  std::vector<double> share(experts), mean(experts);
  double tokens = 0;
  for (const std::string layer : {"0", "1"}) {
    const std::vector<double> logits = golden.floats(layer + ".router.logits");
    const std::vector<int32_t> chosen = golden.integers(layer + ".router.chosen");
    const size_t k = chosen.size() / mask.size();
    for (size_t t = 0; t < mask.size(); ++t) {
      if (mask[t] == 0) continue;
      double sum = 0;
      for (size_t e = 0; e < experts; ++e) sum += std::exp(logits[t * experts + e]);
      for (size_t e = 0; e < experts; ++e) mean[e] += std::exp(logits[t * experts + e]) / sum;
      for (size_t c = 0; c < k; ++c) share[static_cast<size_t>(chosen[t * k + c])] += 1;
      tokens += 1;
    }
  }
  double pooled = 0;
  for (size_t e = 0; e < experts; ++e) {
    pooled += static_cast<double>(experts) * share[e] / tokens * mean[e] / tokens;
  }
  EXPECT_NEAR(pooled, facts["aux_pooled"], 1e-5);
}

// --- The whole model by finite differences.

constexpr int64_t kVocabulary = 23;
constexpr const char* kSmall = R"(
device: reference
model: {type: decoder_lm, d_model: 10, d_kv: 6, d_ff: 7, heads: 4, kv_heads: 2,
        layers: 3, activation: swiglu, dropout: 0.2, rope_theta: 100, sliding_window: 4,
        qk_norm: per_head, norm_epsilon: 1.0e-3, init_deviation: 0.4}
data: {task: causal}
moe:
  experts: 3
  layers: [1, 2]
  capacity: {train_factor: 1.0, min_tokens: 1}
  losses: {load_balance: {coef: 0.3}, router_z: {coef: 0.05}}
  router: {type: switch, jitter: 0.1}
)";

TEST(DecoderFiniteDifferences, WholeModel) {
  ModelUnderTest model(reference_float64(), kSmall, kVocabulary);
  const GlobalBatch rows{
      .sequences = 4,
      .length = 6,
      .group_sequences = 2,
      .real = real_tokens({6, 4, 5, 6}, 6),
      .ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 0, 8, 9, 7, 9, 3, 0, 2, 3, 8, 4, 6, 2}};
  std::vector<int32_t> targets;
  for (size_t t = 0; t < rows.ids.size(); ++t) {
    targets.push_back(rows.real[t] ? (7 * rows.ids[t] + 3) % kVocabulary : kIgnoredTarget);
  }
  const DecoderBatch batch(rows, targets, model.memory());
  const double scale = 1.0 / 21;
  const auto objective = [&](bool with_gradients) {
    for (Weight* weight : model.model().weights()) weight->begin_step();
    for (MoeLayer* layer : model.model().moe_layers()) layer->observation().clear();
    LayerContext ctx = model.context(/*training=*/true);
    double sum = 0;
    for (const double loss : numbers_of(ctx, model.model().forward(ctx, batch.batch(), scale))) {
      sum += scale * loss;
    }
    if (with_gradients) model.model().backward(ctx, batch.batch());
    model.model().observe(ctx, batch.batch());
    model.release();
    for (MoeLayer* layer : model.model().moe_layers()) {
      sum += layer->observation().load_balance + layer->observation().router_z;
    }
    return sum;
  };
  objective(true);
  std::vector<Differentiated> tensors;
  for (const NamedSlice& slice : slices_of(model.model().weights())) {
    Differentiated part = differentiated(slice.name, slice.master(), slice.gradient());
    const int64_t stride = std::max<int64_t>(1, part.elements / 5);
    part.elements = (part.elements + stride - 1) / stride;
    part.value = [stride, value = part.value](int64_t i) { return value(i * stride); };
    part.written = [stride, written = part.written](int64_t i) { return written(i * stride); };
    part.changed = [weight = slice.weight] { weight->master_changed(); };
    tensors.push_back(part);
  }
  expect_gradients(tensors, [&] { return objective(false); });
}

// --- Generation: keys and values kept from step to step.

constexpr const char* kSmallT5 = R"(
device: reference
model: {d_model: 10, d_kv: 6, d_ff: 7, heads: 2, encoder_layers: 2,
        decoder_layers: 3, init_scale: 3, relative_attention: {buckets: 8, max_distance: 6}}
moe:
  experts: 3
  capacity: {overflow: dropless}
  encoder: {layers: {every: 2}, router: {type: switch}}
  decoder: {layers: {every: 2}, router: {type: switch}}
)";

const std::vector<std::vector<int32_t>> kPrompts = {{5, 3, 9, 12, 8}, {7, 2}, {4, 11, 6}};
const std::vector<std::vector<int32_t>> kAnswers = {{1, 14, 2, 20}, {16, 3, 3, 8}, {9, 10, 21, 22}};

class Generation : public testing::TestWithParam<std::tuple<Arithmetic, bool>> {
 protected:
  static bool is_t5() { return std::get<1>(GetParam()); }
  static std::string yaml() {
    const std::string text = is_t5() ? kSmallT5 : kSmall;
    const std::string bound = "{train_factor: 1.0, min_tokens: 1}";
    const size_t at = text.find(bound);
    return at == std::string::npos
               ? text
               : std::string(text).replace(at, bound.size(), "{overflow: dropless}");
  }
  // What the encoder reads for each prompt: padded at the right.
  static GlobalBatch inputs(const std::vector<std::vector<int32_t>>& sequences) {
    size_t length = 1;
    for (const auto& ids : sequences) length = std::max(length, ids.size());
    GlobalBatch batch{.sequences = static_cast<int64_t>(sequences.size()),
                      .length = static_cast<int64_t>(length)};
    for (std::vector<int32_t> ids : sequences) {
      for (size_t i = 0; i < length; ++i) batch.real.push_back(i < ids.size());
      ids.resize(length);
      batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
    }
    return batch;
  }
};

// Prompts of different lengths in one batch, aligned at their ends, then four tokens one by one;
// each row's logits are those of the row alone, computed at once.
TEST_P(Generation, CachedLogitsAreThoseComputedAtOnce) {
  const Arithmetic& arithmetic = std::get<0>(GetParam());
  if (!arithmetic.usable) GTEST_SKIP() << "not usable on this machine";
  ModelUnderTest model(arithmetic, yaml(), kVocabulary);
  const double tolerance = arithmetic.tolerance(1e-12, 1e-5);
  const size_t rows = kPrompts.size(), longest = 5, steps = kAnswers[0].size();

  std::vector<Numbers> wanted;  // [S, V] of each row
  for (size_t row = 0; row < rows; ++row) {
    std::vector<int32_t> ids = kPrompts[row];
    ids.insert(ids.end(), kAnswers[row].begin(), kAnswers[row].end());
    const DecoderBatch alone(inputs({ids}), ids, model.memory());
    ModelBatch batch = alone.batch();
    const BatchRows encoder(inputs({kPrompts[row]}), model.memory());
    batch.encoder = encoder.rows();
    LayerContext ctx = model.context();
    wanted.push_back(numbers_of(ctx, model.model().logits(ctx, batch)));
    model.release();
  }

  LayerContext ctx = model.context();
  const BatchRows encoder(inputs(kPrompts), model.memory());
  const auto count = static_cast<int64_t>(rows);
  Stack::Cache cache = model.model().start(ctx, encoder.rows(), count, 12);
  model.release();
  for (size_t step = 0; step <= steps; ++step) {
    const size_t length = step == 0 ? longest : 1;
    GlobalBatch tokens{.sequences = count, .length = static_cast<int64_t>(length)};
    for (size_t row = 0; row < rows; ++row) {
      const size_t padding = longest - kPrompts[row].size();
      for (size_t i = 0; i < length; ++i) {
        const bool real = step > 0 || i >= padding;
        tokens.real.push_back(real);
        tokens.ids.push_back(step > 0 ? kAnswers[row][step - 1]
                                      : (real ? kPrompts[row][i - padding] : 0));
        tokens.position.push_back(
            real ? static_cast<int32_t>(step > 0 ? kPrompts[row].size() + step - 1 : i - padding)
                 : 0);
      }
    }
    const BatchRows batch(tokens, model.memory());
    const Numbers logits = numbers_of(ctx, model.model().step(ctx, batch.rows(), cache));
    constexpr size_t vocabulary = kVocabulary;
    for (size_t row = 0; row < rows; ++row) {
      const auto last =
          logits.begin() + static_cast<int64_t>(((row + 1) * length - 1) * vocabulary);
      const size_t at = kPrompts[row].size() - 1 + step;
      const auto reference = wanted[row].begin() + static_cast<int64_t>(at * vocabulary);
      expect_close(Numbers(last, last + vocabulary), Numbers(reference, reference + vocabulary),
                   tolerance, "row " + std::to_string(row) + ", step " + std::to_string(step));
    }
    model.release();
  }
  EXPECT_EQ(cache.length, static_cast<int64_t>(longest + steps));
}

INSTANTIATE_TEST_SUITE_P(Models, Generation,
                         testing::Combine(testing::ValuesIn(arithmetics()), testing::Bool()),
                         [](const auto& all) {
                           return std::get<0>(all.param).name +
                                  (std::get<1>(all.param) ? "_switch_t5" : "_decoder_lm");
                         });

}  // namespace
}  // namespace switchyard::test
