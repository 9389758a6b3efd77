// Conversion between directories of Hugging Face and checkpoints, one tensor after the other: a
// model needn't fit in memory. Nothing is left out or made up without being said.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "conversion/ledger.h"
#include "conversion/to_hugging_face.h"
#include "conversion/upcycle.h"

namespace switchyard {

enum class ModelFormat : uint8_t { kSwitchyard, kHuggingFace };

struct ConvertOptions {
  std::filesystem::path from;  // a checkpoint, or a directory of Hugging Face
  std::filesystem::path to;    // must not exist
  ModelFormat format = ModelFormat::kSwitchyard;
  std::optional<StoredType> dtype;  // of every weight; empty: as they are
  std::optional<UpcycleOptions> upcycle;
  uint64_t max_file_bytes = 5'000'000'000;  // of tensors in a file, unless one alone is larger
  ExportCapacity capacity;                  // for Hugging Face
  std::vector<std::string> overrides;       // of the config: "data.length=4096"
};

struct Conversion {
  std::string from, to;  // what they are, for people
  Ledger ledger;
  std::vector<std::string> notes;
};

// How the matrices of a config's model start (registry/make_model.h).
using StartOf = std::function<Initialisation(const ModelConfig&)>;

// Writes options.to whole or not at all. One process calls it. Throws CheckpointError, ConfigError,
// SpaceError.
Conversion convert(const ConvertOptions& options, const ChoiceTables& tables,
                   const StartOf& start_of, FileSystem& files);

}  // namespace switchyard
