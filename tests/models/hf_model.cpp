#include "models/hf_model.h"

#include <gtest/gtest.h>

#include <set>

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

// The part of a name behind "encoder.block.3.".
static std::string hf_name_in_block(const std::string& part, bool decodes) {
  const std::string self = "layer.0.", cross = "layer.1.", ffn = decodes ? "layer.2." : "layer.1.";
  if (part == "self_attention_norm") return self + "layer_norm";
  if (part == "cross_attention_norm") return cross + "layer_norm";
  if (part == "ffn_norm") return ffn + "layer_norm";
  const size_t dot = part.find('.');
  const std::string head = part.substr(0, dot), tail = part.substr(dot + 1);
  if (head == "self_attention") return self + "SelfAttention." + tail;
  if (head == "cross_attention") return cross + "EncDecAttention." + tail;
  if (head == "ffn") return ffn + "mlp." + tail;
  if (tail == "router") return ffn + "mlp.router.classifier";
  const std::string expert = "expert.";
  SWITCHYARD_CHECK(head == "moe" && tail.starts_with(expert), "unknown weight ", part);
  return ffn + "mlp.experts.expert_" + tail.substr(expert.size());
}

std::string hf_name(const std::string& name) {
  if (name == "shared_embedding") return "shared.weight";
  if (name == "lm_head") return "lm_head.weight";
  const size_t dot = name.find('.');
  const std::string stack = name.substr(0, dot), rest = name.substr(dot + 1);
  if (rest == "final_norm") return stack + ".final_layer_norm.weight";
  if (rest == "position_bias") {
    return stack + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight";
  }
  const std::string block = "block.";
  SWITCHYARD_CHECK(rest.starts_with(block), "unknown weight ", name);
  const size_t end = rest.find('.', block.size());
  return stack + "." + rest.substr(0, end + 1) +
         hf_name_in_block(rest.substr(end + 1), stack == "decoder") + ".weight";
}

std::vector<std::string> load_hf_weights(
    ExecContext& ctx, const std::vector<Weight*>& weights, const SafetensorsFile& file,
    const std::function<std::string(const std::string&)>& name_of) {
  std::set<std::string> left;
  for (const StoredTensor& tensor : file.tensors()) left.insert(tensor.name);
  for (const NamedSlice& slice : slices_of(weights)) {
    const std::string name = name_of(slice.name);
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
