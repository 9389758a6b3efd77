#include "config/resolve.h"

#include <algorithm>

#include "config/span_lengths.h"

namespace switchyard {

SpanCorruptionOptions span_corruption_options(const DataConfig& data) {
  return {data.corruption.rate, data.corruption.mean_span};
}

int64_t resolve_targets_length(const DataConfig& data) {
  if (data.targets_length) return *data.targets_length;
  if (!data.uses(DataTask::kSpanCorruption)) return data.inputs_length;
  const SpanCorruptionOptions options = span_corruption_options(data);
  const int tokens = span_lengths(static_cast<int>(data.inputs_length), options).tokens;
  return widest_corrupted_lengths(tokens, options).targets;
}

std::vector<StackConfig> stacks_of(const Config& config) {
  const ModelConfig& model = config.model;
  if (model.is_decoder_only()) {
    return {{"decoder", true, model.layers, "model.layers", &config.moe.decoder_only, "moe"}};
  }
  return {{"encoder", false, model.encoder_layers, "model.encoder_layers", &config.moe.encoder,
           "moe.encoder"},
          {"decoder", true, model.decoder_layers, "model.decoder_layers", &config.moe.decoder,
           "moe.decoder"}};
}

bool has_experts(const Config& config) {
  return std::ranges::any_of(stacks_of(config),
                             [](const StackConfig& stack) { return !stack.moe->layers.is_none(); });
}

int64_t resolve_d_kv(const ModelConfig& model) {
  if (model.d_kv) return *model.d_kv;
  return model.is_decoder_only() ? model.d_model / model.heads : 64;
}

int64_t resolve_shorter_length(const Config& config) {
  const DataConfig& data = config.data;
  if (data.uses(DataTask::kCausal)) return data.length;
  const int64_t inputs = data.inputs_length, targets = resolve_targets_length(data);
  return config.model.is_decoder_only() ? inputs + targets : std::min(inputs, targets);
}

int64_t resolve_group_sequences(const Config& config) {
  if (config.moe.group_sequences) return *config.moe.group_sequences;
  constexpr int64_t kEnoughTokens = 1024;
  const int64_t length = resolve_shorter_length(config);
  const int64_t batch = config.train.batch_sequences;
  for (int64_t group = (kEnoughTokens + length - 1) / length; group < batch; ++group)
    if (batch % group == 0) return group;
  return batch;
}

double resolve_expert_dropout(const Config& config) {
  return config.moe.expert_dropout.value_or(config.model.dropout);
}

int64_t resolve_expert_ranks(const Config& config, int64_t ranks) {
  return config.parallel.expert.value_or(ranks);
}

}  // namespace switchyard
