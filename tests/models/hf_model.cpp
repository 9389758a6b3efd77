#include "models/hf_model.h"

#include <gtest/gtest.h>

#include <set>

#include "conversion/tensor_names.h"

namespace switchyard::test {

ModelOptions read_hf_config(const std::string& file) {
  const nlohmann::json config = golden_json(file);
  ModelOptions options;
  options.vocabulary = config.at("vocab_size");
  options.d_model = config.at("d_model");
  options.d_kv = config.at("d_kv");
  options.heads = config.at("num_heads");
  options.d_ff = config.at("d_ff");
  options.encoder_blocks = config.at("num_layers");
  options.decoder_blocks = config.at("num_decoder_layers");
  options.encoder_step = config.at("encoder_sparse_step");
  options.decoder_step = config.at("decoder_sparse_step");
  options.experts = config.at("num_experts");
  options.buckets = config.at("relative_attention_num_buckets");
  options.max_distance = config.at("relative_attention_max_distance");
  options.norm_epsilon = config.at("layer_norm_epsilon");
  options.tie_embeddings = config.value("tie_word_embeddings", true);
  options.capacity.tokens = config.at("expert_capacity").get<int64_t>();
  options.capacity.padding_takes_capacity = true;
  SWITCHYARD_CHECK(config.at("dense_act_fn") == "relu" && config.at("router_bias") == false, file);
  return options;
}

std::string hf_name(const std::string& name) {
  return hugging_face_name({.family = Family::kSwitchTransformers}, name);
}

std::vector<std::string> load_hf_weights(ExecContext& ctx, const std::vector<Weight*>& weights,
                                         const SafetensorsFile& file) {
  std::set<std::string> left;
  for (const StoredTensor& tensor : file.tensors()) left.insert(tensor.name);
  for (const NamedSlice& slice : slices_of(weights)) {
    const std::string name = hf_name(slice.name);
    const Tensor tensor = file.read(name);
    const float* data = tensor.data<float>();
    SWITCHYARD_CHECK(tensor.shape() == slice.master().shape(), name, " ", tensor.shape(),
                     " for a weight ", slice.master().shape());
    SWITCHYARD_CHECK(left.erase(name) == 1, name, " has two readers");
    set_numbers(ctx, *slice.weight, slice.master(), Numbers(data, data + tensor.elements()));
  }
  return {left.begin(), left.end()};
}

std::unique_ptr<BatchRows> batch_rows(const Sequences& sequences, Memory& memory) {
  const std::vector<uint8_t> real(sequences.mask.begin(), sequences.mask.end());
  const GlobalBatch batch{
      .sequences = sequences.count, .length = sequences.length, .real = real, .ids = sequences.ids};
  return std::make_unique<BatchRows>(batch, memory);
}

HfBatch HfBatch::of(const GoldenTensors& golden) {
  return {.encoder = {3, 12, golden.integers("input_ids"), golden.integers("attention_mask")},
          .decoder = {3, 7, golden.integers("decoder_input_ids")},
          .labels = golden.integers("labels")};
}

int64_t HfBatch::targets() const {
  return static_cast<int64_t>(labels.size()) -
         std::count(labels.begin(), labels.end(), kIgnoredTarget);
}

HfBatchOnDevice::HfBatchOnDevice(const HfBatch& batch, LayerContext& ctx)
    : encoder_(batch_rows(batch.encoder, ctx.kernels.memory())),
      decoder_(batch_rows(batch.decoder, ctx.kernels.memory())) {
  batch_ = {.encoder = encoder_->rows(), .decoder = decoder_->rows()};
  batch_.decoder.segment = TensorView();
  batch_.targets = ctx.saved.allocate(DType::kInt32, {static_cast<int64_t>(batch.labels.size())});
  upload(ctx, std::span<const int32_t>(batch.labels), batch_.targets);
}

void expect_close(const Numbers& actual, const Numbers& reference, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), reference.size()) << what;
  EXPECT_LE(relative_difference(actual, reference), tolerance) << what;
}

}  // namespace switchyard::test
