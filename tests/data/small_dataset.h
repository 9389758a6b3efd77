// Small datasets for tests: a tokenizer trained on made-up words, token files written directly.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace switchyard {

struct SmallDocument {
  int label;
  std::vector<int32_t> ids;
};

// A SentencePiece model of at most 384 - 100 pieces, made once in a process.
const std::string& small_tokenizer();

// Writes a whole dataset directory. Ids must lie below the small tokenizer's vocabulary, or below
// the one given: the dataset has no tokenizer then.
void write_small_dataset(const std::filesystem::path& directory,
                         const std::vector<std::string>& labels,
                         const std::vector<SmallDocument>& train,
                         const std::vector<SmallDocument>& validation,
                         ExampleKind examples = ExampleKind::kText,
                         const std::optional<Vocabulary>& ids = std::nullopt);

}  // namespace switchyard
