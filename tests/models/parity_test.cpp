// The whole model against transformers 4.57.6 (tests/golden/README.md): what comes out, block by
// block, and what the mixtures decide.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "models/hf_model.h"
#include "trainer/micro_batch.h"

namespace switchyard::test {
namespace {

// Measured against the largest value of a tensor; 1e-6 was seen. The goldens are float32, so
// float64 isn't closer to them.
constexpr double kTolerance = 1e-5;

class Parity : public testing::TestWithParam<Arithmetic> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << "not usable on this machine";
  }

  // Gives a model the weights of switch_full.
  void load(SingleModel& model) const {
    LayerContext ctx = model->context(false);
    const auto left = load_hf_weights(ctx, model->model().weights(), weights_);
    EXPECT_THAT(left, testing::IsEmpty());
  }

  static Numbers logits(SingleModel& model, const HfBatch& batch) {
    LayerContext ctx = model->context(false);
    const HfBatchOnDevice on_device(batch, ctx);
    const Numbers result = numbers_of(ctx, model->model().logits(ctx, on_device.batch()));
    model->release();
    return result;
  }

  const SafetensorsFile weights_ =
      SafetensorsFile::open(golden_path("switch_full/model.safetensors"));
  const GoldenTensors golden_{"switch_full/golden.safetensors"};
  const GoldenTensors masks_{"switch_full/masks.safetensors"};
  const ModelOptions options_ = read_hf_config("switch_full/config.json");
};

TEST_P(Parity, LogitsAndLoss) {
  SingleModel model(GetParam(), options_);
  load(model);
  HfBatch batch = HfBatch::of(golden_);
  expect_close(logits(model, batch), golden_.floats("logits"), kTolerance, "logits");

  LayerContext ctx = model->context(false);
  const HfBatchOnDevice on_device(batch, ctx);
  double loss = 0;
  for (double of_target : numbers_of(ctx, model->model().forward(ctx, on_device.batch(), 0.0))) {
    loss += of_target / static_cast<double>(batch.targets());
  }
  const double expected = golden_json("switch_full/golden.json").at("loss_float64");
  EXPECT_NEAR(loss, expected, GetParam().tolerance(1e-12, 1e-6) * expected);
}

TEST_P(Parity, HiddenStatesOfEveryBlock) {
  SingleModel model(GetParam(), options_);
  load(model);
  HfBatch batch = HfBatch::of(golden_);
  LayerContext ctx = model->context(false);
  const HfBatchOnDevice on_device(batch, ctx);
  const SwitchT5::Hidden hidden = model->model().hidden_states(ctx, on_device.batch());
  const auto compare = [&](const std::string& stack, const std::vector<TensorView>& states,
                           int64_t blocks) {
    ASSERT_EQ(static_cast<int64_t>(states.size()), blocks + 1) << stack;
    for (int64_t i = 0; i <= blocks; ++i) {
      const std::string name =
          stack + (i < blocks ? ".hidden." + std::to_string(i) : ".last_hidden_state");
      expect_close(numbers_of(ctx, states[static_cast<size_t>(i)]), golden_.floats(name),
                   kTolerance, name);
    }
  };
  compare("encoder", hidden.encoder, options_.encoder_blocks);
  compare("decoder", hidden.decoder, options_.decoder_blocks);
}

// The output of a mixture from what it kept for backward: the returned row times the gate.
Numbers moe_output(LayerContext& ctx, const MoeLayer::Saved& saved) {
  const Numbers returned = numbers_of(ctx, saved.experts.returned);
  const Numbers gate = numbers_of(ctx, saved.routing->weight);
  const auto position = read_back_as<int32_t>(ctx, saved.experts.plan.position);
  const auto width = static_cast<size_t>(saved.experts.returned.shape()[1]);
  Numbers output(position.size() * width, 0.0);
  for (size_t t = 0; t < position.size(); ++t) {
    if (position[t] < 0) continue;
    for (size_t d = 0; d < width; ++d) {
      output[t * width + d] = gate[t] * returned[static_cast<size_t>(position[t]) * width + d];
    }
  }
  return output;
}

std::vector<int32_t> kept_flags(LayerContext& ctx, const MoeLayer::Saved& saved) {
  std::vector<int32_t> flags = read_back_as<int32_t>(ctx, saved.kept);
  for (int32_t& flag : flags) flag = flag >= 0;
  return flags;
}

TEST_P(Parity, RoutingOfEveryMixture) {
  SingleModel model(GetParam(), options_);
  load(model);
  HfBatch batch = HfBatch::of(golden_);
  LayerContext ctx = model->context(false);
  const HfBatchOnDevice on_device(batch, ctx);
  model->model().logits(ctx, on_device.batch());
  int compared = 0;
  const auto compare = [&](const std::string& stack,
                           const std::vector<const MoeLayer::Saved*>& mixtures) {
    for (size_t block = 0; block < mixtures.size(); ++block) {
      if (!mixtures[block]) continue;
      ++compared;
      const MoeLayer::Saved& saved = *mixtures[block];
      const std::string layer = stack + "." + std::to_string(block);
      const auto close = [&](TensorView actual, const std::string& name) {
        expect_close(numbers_of(ctx, actual), golden_.floats(layer + name), kTolerance,
                     layer + name);
      };
      close(saved.routing->logits, ".router.logits");
      close(saved.routing->weight, ".router.gate");
      close(saved.routing->gate_input, ".moe.input");
      EXPECT_EQ(read_back_as<int32_t>(ctx, saved.routing->expert),
                golden_.integers(layer + ".router.chosen"));
      EXPECT_EQ(kept_flags(ctx, saved), golden_.integers(layer + ".router.kept"));
      expect_close(moe_output(ctx, saved), golden_.floats(layer + ".moe.output"), kTolerance,
                   layer + ".moe.output");
    }
  };
  compare("encoder", model->model().encoder_mixtures());
  compare("decoder", model->model().decoder_mixtures());
  EXPECT_EQ(compared, 3);
}

// Each layer's losses with coefficient 1, from what the trainer reports: the paper's, per sequence,
// padding left out though it takes room.
TEST_P(Parity, AuxiliaryLossesOfEveryMixture) {
  ModelOptions options = options_;
  options.losses = {.load_balance = 1, .router_z = 1};
  SingleModel model(GetParam(), options);
  load(model);
  HfBatch batch = HfBatch::of(golden_);
  LayerContext ctx = model->context(false);
  const HfBatchOnDevice on_device(batch, ctx);
  model->model().logits(ctx, on_device.batch());
  model->model().observe(ctx, on_device.batch());
  const nlohmann::json facts = golden_json("switch_full/golden.json").at("layers");
  const std::vector<MoeLayer*> layers = model->model().moe_layers();
  const std::vector<std::string> names = {"encoder.1", "encoder.3", "decoder.1"};
  ASSERT_EQ(layers.size(), names.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const nlohmann::json& expected = facts.at(names[i]);
    const MoeObservation& seen = layers[i]->observation();
    const auto near = [&](double actual, const char* name) {
      const double value = expected.at(name);
      EXPECT_NEAR(actual, value, 1e-5 * value) << names[i] << " " << name;
    };
    near(seen.load_balance, "load_balance_real");
    near(seen.router_z, "router_z_real_groups");
  }
}

// Sequences as a data source gives them; 0 is padding, which carries no loss.
class FixedSource : public TokenSource {
 public:
  FixedSource(const HfBatch& batch) : encoder_(batch.encoder) {
    for (const int32_t label : batch.labels) {
      targets_.push_back(label == kIgnoredTarget ? 0 : label);
    }
  }
  int inputs_width() const override { return static_cast<int>(encoder_.length); }
  int targets_width() const override {
    return static_cast<int>(targets_.size()) / static_cast<int>(encoder_.count);
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& label_names() const override { return labels_; }
  int64_t epoch_size() const override { return encoder_.count; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override {
    ASSERT_EQ(static_cast<int64_t>(global_indices.size()), encoder_.count);
    batch.reset(inputs_width(), targets_width());
    for (int64_t row = 0; row < encoder_.count; ++row) {
      batch.add_row(0);
      batch.add_sample({}, {}, 0);
    }
    // Here padding may stand anywhere.
    batch.inputs = encoder_.ids;
    batch.targets = targets_;
    std::ranges::transform(batch.inputs, batch.inputs_segment.begin(), is_real);
    std::ranges::transform(batch.targets, batch.targets_segment.begin(), is_real);
  }

 private:
  static int32_t is_real(int32_t id) { return id == 0 ? 0 : 1; }

  Sequences encoder_;
  std::vector<int32_t> targets_;
  Vocabulary vocabulary_{.size = 128, .pad = 0};
  std::vector<std::string> labels_ = {"all"};
};

// The batch that the trainer makes: targets shifted right, padding found by its id.
TEST_P(Parity, BatchOfTheTrainer) {
  SingleModel model(GetParam(), options_);
  load(model);
  const HfBatch hf = HfBatch::of(golden_);
  ASSERT_EQ(masks_.integers("labels"), hf.labels);
  const MicroBatch batch(FixedSource(hf), {.sequences = 3, .group_sequences = 1}, 0, 0, 0);
  LayerContext ctx = model->context(false);
  const ModelBatch on_device = batch.upload_to(ctx);
  EXPECT_EQ(read_back_as<int32_t>(ctx, on_device.decoder.ids), masks_.integers("shifted"));
  expect_close(numbers_of(ctx, model->model().logits(ctx, on_device)), golden_.floats("logits"),
               kTolerance, "logits");
}

// Without tying, the head is a weight of its own and hidden states aren't scaled by D^-1/2.
TEST_P(Parity, UntiedHead) {
  const GoldenTensors untied("switch_full/untied.safetensors");
  ModelOptions options = options_;
  options.tie_embeddings = false;
  SingleModel model(GetParam(), options);
  std::vector<Weight*> weights = model->model().weights();
  Weight* head = nullptr;
  std::erase_if(weights, [&](Weight* weight) {
    if (weight->name() != "lm_head") return false;
    head = weight;
    return true;
  });
  ASSERT_TRUE(head);
  LayerContext ctx = model->context(false);
  EXPECT_THAT(load_hf_weights(ctx, weights, weights_), testing::IsEmpty());
  HfBatch batch = HfBatch::of(golden_);

  set_numbers(ctx, *head, head->master(), untied.floats("lm_head.weight"));
  expect_close(logits(model, batch), untied.floats("logits"), kTolerance, "own head");
  set_numbers(ctx, *head, head->master(),
              GoldenTensors("switch_full/model.safetensors").floats("shared.weight"));
  const Numbers shared = logits(model, batch);
  expect_close(shared, untied.floats("logits_with_shared_as_lm_head"), kTolerance, "shared");

  SingleModel tied(GetParam(), options_);
  load(tied);
  Numbers scaled = shared;
  for (double& value : scaled) value /= std::sqrt(24.0);
  expect_close(logits(tied, batch), scaled, kTolerance, "tied is D^-1/2 times untied");
  expect_close(scaled, untied.floats("logits_tied"), kTolerance, "tied");
}

TEST_P(Parity, LaterTargetsDontMoveEarlierLogits) {
  SingleModel model(GetParam(), options_);
  load(model);
  HfBatch batch = HfBatch::of(golden_);
  const Numbers before = logits(model, batch);
  batch.decoder.ids = masks_.integers("future.decoder_input_ids");
  const Numbers after = logits(model, batch);
  expect_close(after, masks_.floats("future.logits"), kTolerance, "future");

  const int64_t unchanged =
      golden_json("switch_full/masks.json").at("future_changed_from_position");
  const size_t vocabulary = 61, length = 7;
  for (size_t i = 0; i < before.size(); ++i) {
    const auto position = static_cast<int64_t>(i / vocabulary % length);
    if (position < unchanged) {
      ASSERT_EQ(before[i], after[i]) << "position " << position;
    }
  }
}

// Ids under padding reach logits only where the padding takes room from real tokens.
TEST_P(Parity, PaddedTokensOnlyTakeRoom) {
  ModelOptions roomy = options_;
  roomy.capacity.tokens = golden_json("switch_full/masks.json").at("roomy_capacity").get<int64_t>();
  for (const bool binding : {true, false}) {
    SingleModel model(GetParam(), binding ? options_ : roomy);
    load(model);
    HfBatch batch = HfBatch::of(golden_);
    const Numbers before = logits(model, batch);
    batch.encoder.ids = masks_.integers("pads.input_ids");
    const Numbers after = logits(model, batch);
    const std::string name = binding ? "pads.logits" : "roomy_pads.logits";
    expect_close(after, masks_.floats(name), kTolerance, name);
    if (binding) {
      EXPECT_GT(relative_difference(after, before), 0.1);
    } else {
      expect_close(before, masks_.floats("roomy.logits"), kTolerance, "roomy.logits");
      expect_close(after, before, GetParam().tolerance(1e-13, 1e-6), "ids of padding");
    }
  }
}

// A query that sees nothing attends to everything alike; nothing becomes NaN.
TEST_P(Parity, SequenceOfPaddingAlone) {
  SingleModel model(GetParam(), options_);
  load(model);
  HfBatch batch = HfBatch::of(golden_);
  batch.encoder.mask = masks_.integers("all_pad.attention_mask");
  LayerContext ctx = model->context(false);
  const HfBatchOnDevice on_device(batch, ctx);
  const SwitchT5::Hidden hidden = model->model().hidden_states(ctx, on_device.batch());
  expect_close(numbers_of(ctx, hidden.encoder.back()),
               masks_.floats("all_pad.encoder.last_hidden_state"), kTolerance, "encoder");
  const auto encoder = model->model().encoder_mixtures();
  const auto decoder = model->model().decoder_mixtures();
  const std::map<std::string, const MoeLayer::Saved*> mixtures = {
      {"encoder.1", encoder[1]}, {"encoder.3", encoder[3]}, {"decoder.1", decoder[1]}};
  for (const auto& [layer, saved] : mixtures) {
    const std::string prefix = "all_pad." + layer + ".router.";
    EXPECT_EQ(read_back_as<int32_t>(ctx, saved->routing->expert),
              masks_.integers(prefix + "chosen"));
    EXPECT_EQ(kept_flags(ctx, *saved), masks_.integers(prefix + "kept"));
  }
  model->release();
  expect_close(logits(model, batch), masks_.floats("all_pad.logits"), kTolerance, "logits");
}

// An encoder with d_kv 64, so that a 1/sqrt(d) would show, and 100 positions, so that every kind of
// bucket occurs: scores aren't scaled, and all blocks share one position bias.
TEST_P(Parity, EncoderWithoutScaleAndWithOneBias) {
  const GoldenTensors golden("encoder_bias/golden.safetensors");
  const SafetensorsFile weights =
      SafetensorsFile::open(golden_path("encoder_bias/model.safetensors"));
  const ModelOptions options = read_hf_config("encoder_bias/config.json");
  const DType dtype = GetParam().dtype;
  const auto world = make_single_collectives();
  const Groups groups = make_groups(*world, 1);
  const auto kernels = GetParam().make_kernels();
  Workspace workspace(*kernels, groups, 0);
  EmbeddingLayer embedding("shared_embedding", options.vocabulary, options.d_model, {}, dtype,
                           kernels->memory(), 0);
  Stack encoder(
      stack_options(options, StackKind::kEncoder),
      make_feed_forwards(options, StackKind::kEncoder, dtype, kernels->memory(), groups, 0), dtype,
      kernels->memory(), 0);
  std::vector<Weight*> all = encoder.weights();
  embedding.collect_weights(all);
  LayerContext ctx = workspace.context(false, 0);
  EXPECT_THAT(load_hf_weights(ctx, all, weights), testing::IsEmpty());

  const Sequences sequences{2, 100, golden.integers("input_ids"),
                            golden.integers("attention_mask")};
  const auto on_device = batch_rows(sequences, kernels->memory());
  const TokenRows& rows = on_device->rows();
  Stack::Saved saved = encoder.make_saved();
  std::vector<TensorView> hidden;
  hidden.push_back(
      encoder.forward(ctx, rows, embedding.forward(ctx, rows, dtype), nullptr, saved, &hidden));
  ASSERT_EQ(hidden.size(), 4u);
  for (size_t i = 0; i < hidden.size(); ++i) {
    const std::string name =
        i < 3 ? "encoder.hidden." + std::to_string(i) : "encoder.last_hidden_state";
    expect_close(numbers_of(ctx, hidden[i]), golden.floats(name), kTolerance, name);
  }
}

std::string name_of_parameter(const testing::TestParamInfo<Arithmetic>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Models, Parity, testing::ValuesIn(arithmetics()), name_of_parameter);

}  // namespace
}  // namespace switchyard::test
