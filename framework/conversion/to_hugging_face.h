// From a config of ours to the config.json that says the same in Hugging Face transformers 4.57.6.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "conversion/tensor_names.h"
#include "data/special_pieces.h"
#include "safetensors/header.h"

namespace switchyard {

// How the exported model's mixtures drop tokens, where its own way can't be said: transformers'
// Switch Transformer knows a number of tokens per expert and sequence, the others drop none.
struct ExportCapacity {
  bool stated = false;
  std::optional<int64_t> tokens;  // empty: nothing is dropped
};

struct ExportedConfig {
  Dialect dialect;
  std::string json;
  std::vector<std::string> notes;
};

// Throws ConfigError naming the key that transformers can't express, and why.
//   vocabulary  V
//   ids         of the tokenizer, or of data.vocabulary
//   type        of most weights
ExportedConfig export_config(const Config& config, int64_t vocabulary, const SpecialPieces& ids,
                             StoredType type, const ExportCapacity& capacity);

// The names of the files beside the weights that a tokenizer becomes, and what stands in them; the
// SentencePiece model itself is copied as `model_file`.
struct ExportedTokenizer {
  std::string model_file;  // "spiece.model"
  std::vector<std::pair<std::string, std::string>> texts;
};
ExportedTokenizer export_tokenizer(Family family, const SpecialPieces& pieces);

}  // namespace switchyard
