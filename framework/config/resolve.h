// What `auto` becomes where other keys decide it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/span_lengths.h"

namespace switchyard {

// data.corruption as the data pipeline takes it.
SpanCorruptionOptions span_corruption_options(const DataConfig& data);

// data.targets_length, or for auto the most tokens, end-of-text included, of a target that span
// corruption makes of a text that fits in data.inputs_length; data.inputs_length where every task
// is text_to_text.
int64_t resolve_targets_length(const DataConfig& data);

// A stack of blocks as the config describes it.
struct StackConfig {
  std::string name;           // "encoder", "decoder"
  bool causal = false;        // its tokens must not learn from later ones
  int64_t layers = 0;         // its blocks
  std::string layers_key;     // where their number stands: "model.decoder_layers"
  const MoeStackConfig* moe;  // borrowed from the config
  std::string moe_path;       // where that stands: "moe.decoder"; "moe" in a decoder-only model
};
// The stacks of the model: encoder and decoder, or a decoder alone.
std::vector<StackConfig> stacks_of(const Config& config);
// Whether any of their layers is a mixture of experts.
bool has_experts(const Config& config);

// model.d_kv, or for auto d_model / heads in a decoder-only model and T5's 64 elsewhere.
int64_t resolve_d_kv(const ModelConfig& model);

// Tokens of a row of the stack with the shorter rows: data.length of the causal task, prompt and
// answer together for pairs of a model without an encoder.
int64_t resolve_shorter_length(const Config& config);

// moe.group_sequences, or for auto the smallest number of sequences that divides the global batch
// and holds at least 1,024 tokens of the stack with the shorter sequences; at most the global
// batch.
int64_t resolve_group_sequences(const Config& config);

// moe.expert_dropout, or for auto model.dropout: an expert is the feed-forward network that it
// stands for, which T5 drops out inside (so do Hugging Face's experts; Fedus 2021 sets the two
// rates apart in fine-tuning only, 0.4 in experts beside 0.1).
double resolve_expert_dropout(const Config& config);

// parallel.expert, or for auto all ranks of the job.
int64_t resolve_expert_ranks(const Config& config, int64_t ranks);

}  // namespace switchyard
