#include "conversion/tensor_names.h"

#include <algorithm>
#include <span>

#include "base/check.h"

namespace switchyard {

namespace {

// '*' stands for a number, '@' for a word; they come in the same order on both sides.
struct Row {
  const char* ours;
  const char* theirs;
};

constexpr Row kT5Rows[] = {
    {"shared_embedding", "shared.weight"},
    {"lm_head", "lm_head.weight"},
    {"@.final_norm", "@.final_layer_norm.weight"},
    {"@.position_bias", "@.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
    {"@.block.*.self_attention_norm", "@.block.*.layer.0.layer_norm.weight"},
    {"@.block.*.self_attention.@", "@.block.*.layer.0.SelfAttention.@.weight"},
    {"decoder.block.*.cross_attention_norm", "decoder.block.*.layer.1.layer_norm.weight"},
    {"decoder.block.*.cross_attention.@", "decoder.block.*.layer.1.EncDecAttention.@.weight"},
    {"encoder.block.*.ffn_norm", "encoder.block.*.layer.1.layer_norm.weight"},
    {"decoder.block.*.ffn_norm", "decoder.block.*.layer.2.layer_norm.weight"},
};
constexpr Row kSwitchRows[] = {
    {"encoder.block.*.ffn.@", "encoder.block.*.layer.1.mlp.@.weight"},
    {"decoder.block.*.ffn.@", "decoder.block.*.layer.2.mlp.@.weight"},
    {"encoder.block.*.moe.router", "encoder.block.*.layer.1.mlp.router.classifier.weight"},
    {"decoder.block.*.moe.router", "decoder.block.*.layer.2.mlp.router.classifier.weight"},
    {"encoder.block.*.moe.expert.*.@", "encoder.block.*.layer.1.mlp.experts.expert_*.@.weight"},
    {"decoder.block.*.moe.expert.*.@", "decoder.block.*.layer.2.mlp.experts.expert_*.@.weight"},
};
constexpr Row kT5DenseRows[] = {
    {"encoder.block.*.ffn.@", "encoder.block.*.layer.1.DenseReluDense.@.weight"},
    {"decoder.block.*.ffn.@", "decoder.block.*.layer.2.DenseReluDense.@.weight"},
};
// T5 1.1: act(wi_0 x) * (wi_1 x).
constexpr Row kT5GatedRows[] = {
    {"encoder.block.*.ffn.wg", "encoder.block.*.layer.1.DenseReluDense.wi_0.weight"},
    {"encoder.block.*.ffn.wi", "encoder.block.*.layer.1.DenseReluDense.wi_1.weight"},
    {"encoder.block.*.ffn.wo", "encoder.block.*.layer.1.DenseReluDense.wo.weight"},
    {"decoder.block.*.ffn.wg", "decoder.block.*.layer.2.DenseReluDense.wi_0.weight"},
    {"decoder.block.*.ffn.wi", "decoder.block.*.layer.2.DenseReluDense.wi_1.weight"},
    {"decoder.block.*.ffn.wo", "decoder.block.*.layer.2.DenseReluDense.wo.weight"},
};

constexpr Row kDecoderRows[] = {
    {"embedding", "model.embed_tokens.weight"},
    {"lm_head", "lm_head.weight"},
    {"decoder.final_norm", "model.norm.weight"},
    {"decoder.block.*.self_attention_norm", "model.layers.*.input_layernorm.weight"},
    {"decoder.block.*.ffn_norm", "model.layers.*.post_attention_layernorm.weight"},
    {"decoder.block.*.self_attention.q_norm", "model.layers.*.self_attn.q_norm.weight"},
    {"decoder.block.*.self_attention.k_norm", "model.layers.*.self_attn.k_norm.weight"},
    {"decoder.block.*.self_attention.@", "model.layers.*.self_attn.@_proj.weight"},
};
constexpr Row kMixtralRows[] = {
    {"decoder.block.*.moe.router", "model.layers.*.block_sparse_moe.gate.weight"},
    {"decoder.block.*.moe.expert.*.wg", "model.layers.*.block_sparse_moe.experts.*.w1.weight"},
    {"decoder.block.*.moe.expert.*.wo", "model.layers.*.block_sparse_moe.experts.*.w2.weight"},
    {"decoder.block.*.moe.expert.*.wi", "model.layers.*.block_sparse_moe.experts.*.w3.weight"},
};
constexpr Row kMlpRows[] = {
    {"decoder.block.*.moe.router", "model.layers.*.mlp.gate.weight"},
    {"decoder.block.*.moe.expert.*.wg", "model.layers.*.mlp.experts.*.gate_proj.weight"},
    {"decoder.block.*.moe.expert.*.wo", "model.layers.*.mlp.experts.*.down_proj.weight"},
    {"decoder.block.*.moe.expert.*.wi", "model.layers.*.mlp.experts.*.up_proj.weight"},
    {"decoder.block.*.ffn.wg", "model.layers.*.mlp.gate_proj.weight"},
    {"decoder.block.*.ffn.wo", "model.layers.*.mlp.down_proj.weight"},
    {"decoder.block.*.ffn.wi", "model.layers.*.mlp.up_proj.weight"},
};

// Of transformers 5, read and never written.
constexpr Row kLaterRows[] = {
    {"decoder.block.*.moe.router", "model.layers.*.mlp.gate.weight"},
};
struct StackedRow {
  Row row;
  uint64_t part, parts;  // of an expert's part of the stack
};
constexpr StackedRow kStackedRows[] = {
    {{"decoder.block.*.moe.expert.*.wg", "model.layers.*.mlp.experts.gate_up_proj"}, 0, 2},
    {{"decoder.block.*.moe.expert.*.wi", "model.layers.*.mlp.experts.gate_up_proj"}, 1, 2},
    {{"decoder.block.*.moe.expert.*.wo", "model.layers.*.mlp.experts.down_proj"}, 0, 1},
};

bool fits(char mark, char c) {
  const bool digit = c >= '0' && c <= '9';
  return mark == '*' ? digit : digit || c == '_' || (c >= 'a' && c <= 'z');
}

// What the marks of the pattern stand for in the name.
std::optional<std::vector<std::string>> match(std::string_view pattern, std::string_view name) {
  std::vector<std::string> found;
  size_t at = 0;
  for (const char mark : pattern) {
    if (mark != '*' && mark != '@') {
      if (at == name.size() || name[at++] != mark) return {};
      continue;
    }
    const size_t begin = at;
    while (at < name.size() && fits(mark, name[at])) ++at;
    if (at == begin) return {};
    found.emplace_back(name.substr(begin, at - begin));
  }
  if (at != name.size()) return {};
  return found;
}

std::string fill(std::string_view pattern, std::span<const std::string> words) {
  std::string name;
  size_t next = 0;
  for (const char c : pattern) {
    if (c == '*' || c == '@') {
      name += words[next++];
    } else {
      name += c;
    }
  }
  return name;
}

// Empty where no row has the name.
std::string translate(std::span<const Row> rows, const std::string& name) {
  for (const Row& row : rows) {
    if (const auto words = match(row.ours, name)) return fill(row.theirs, *words);
  }
  return "";
}

std::vector<std::span<const Row>> tables_of(const Dialect& dialect) {
  switch (dialect.family) {
    case Family::kSwitchTransformers:
      return {kT5Rows, kSwitchRows};
    case Family::kT5:
      if (dialect.gated) return {kT5Rows, kT5GatedRows};
      return {kT5Rows, kT5DenseRows};
    case Family::kMixtral:
      return {kDecoderRows, kMixtralRows};
    case Family::kOlmoe:
    case Family::kQwen3Moe:
      break;
  }
  return {kDecoderRows, kMlpRows};
}

}  // namespace

std::string hugging_face_name(const Dialect& dialect, const std::string& name) {
  for (const std::span<const Row> rows : tables_of(dialect)) {
    if (std::string found = translate(rows, name); !found.empty()) return found;
  }
  SWITCHYARD_CHECK(false, name_of(dialect.family), " has no tensor ", name);
  return "";
}

std::vector<Place> places_of(const Dialect& dialect, const std::string& name,
                             const std::vector<uint64_t>& shape, int64_t experts) {
  std::vector<Place> places = {{.name = hugging_face_name(dialect, name), .shape = shape}};
  if (is_encoder_decoder(dialect.family)) return places;
  if (std::string later = translate(kLaterRows, name);
      !later.empty() && later != places.front().name) {
    places.push_back({.name = std::move(later), .shape = shape});
  }
  for (const StackedRow& stacked : kStackedRows) {
    const auto words = match(stacked.row.ours, name);
    if (!words) continue;
    const auto all = static_cast<uint64_t>(experts);
    places.push_back({.name = fill(stacked.row.theirs, *words),
                      .shape = {all, stacked.parts * shape.at(0), shape.at(1)},
                      .part = std::stoull(words->at(1)) * stacked.parts + stacked.part,
                      .parts = all * stacked.parts});
  }
  return places;
}

std::vector<Spare> spares_of(const Dialect& dialect) {
  if (!is_encoder_decoder(dialect.family)) {
    if (!dialect.tied) return {};
    return {{"lm_head.weight", "model.embed_tokens.weight", "the head is the embedding"}};
  }
  std::vector<Spare> spares = {
      {"encoder.embed_tokens.weight", "shared.weight", "the embedding under another name"},
      {"decoder.embed_tokens.weight", "shared.weight", "the embedding under another name"}};
  if (dialect.tied) {
    spares.push_back({"lm_head.weight", "shared.weight", "the head is the embedding"});
  }
  if (dialect.family == Family::kT5) {
    // Of T5's first checkpoints: cross-attention has no position bias.
    spares.push_back({"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", "",
                      "transformers doesn't use it"});
  }
  return spares;
}

}  // namespace switchyard
