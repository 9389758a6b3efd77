// A model to be read tensor by tensor under our global names, wherever it comes from: a directory
// of Hugging Face, or a checkpoint. Nothing is built and nothing is held in memory.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/config.h"
#include "conversion/tensor_names.h"
#include "data/vocabulary.h"
#include "safetensors/header.h"
#include "tensor/weight.h"

namespace switchyard {

class Checkpoint;
class SafetensorsSet;
class FileSystem;

// A tensor under its name here. `read` hands out its bytes, in order, in pieces of any size.
struct SourceTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<uint64_t> shape;
  std::string origin = {};  // what the source calls it
  std::string note = {};    // what was done to it, where it isn't the whole of that; empty: nothing
  std::function<void(const TakeBytes&)> read = {};

  uint64_t size_bytes() const { return stored_bytes(type, shape).value_or(0); }
};

// A tensor of the source that goes nowhere, and why.
struct LeftOut {
  std::string name, reason;
};

// A SentencePiece model beside the weights.
struct TokenizerFile {
  std::filesystem::path path;     // empty: none
  std::optional<Vocabulary> ids;  // none: it can't be read, only be carried along
};

struct ModelSource {
  // Where from, for people: "Hugging Face mixtral".
  std::string description;
  // As read from config.yaml, or made from config.json: valid and complete.
  Config config;
  int64_t vocabulary = 0;  // V
  TokenizerFile tokenizer;
  int64_t step = 0, tokens_seen = 0;  // of a checkpoint
  std::vector<SourceTensor> tensors;  // in the order of the model
  size_t stored_tensors = 0;          // that the source has, those left out included
  std::vector<LeftOut> left_out;
  // What the source's config says and nothing takes over, a line each.
  std::vector<std::string> notes;

  ModelSource();
  ~ModelSource();
  ModelSource(ModelSource&&) noexcept;
  ModelSource& operator=(ModelSource&&) noexcept;

  // What `read` reads from; it moves with the source, its address stays.
  std::unique_ptr<SafetensorsSet> set;
  std::unique_ptr<Checkpoint> checkpoint;
};

// Whether the directory is one of Hugging Face: it has a config.json, and no manifest.
bool is_hugging_face(const std::filesystem::path& path, FileSystem& files);

// Every tensor must be there, of its shape, and none besides, but for other names of a tied one,
// which must hold the same bytes. Throws CheckpointError naming file, tensors or the key of
// config.json that can't be expressed.
//   overrides  of the config that is made: "train.steps=100"
ModelSource open_hugging_face(const std::filesystem::path& path,
                              const std::vector<std::string>& overrides, const ChoiceTables& tables,
                              FileSystem& files);
// A finished checkpoint, its optimizer state left alone. Bytes are checked against their hashes as
// they are read.
ModelSource open_checkpoint(const std::filesystem::path& path,
                            const std::vector<std::string>& overrides, const ChoiceTables& tables,
                            FileSystem& files);

// V: the embedding table's rows in a checkpoint of the config's model. Throws CheckpointError where
// it isn't one.
int64_t vocabulary_of(const Checkpoint& checkpoint, const Config& config);

// Gives weights, each rank what it holds, the source's values. The source must have exactly the
// weights' tensors, experts of other ranks included. Throws CheckpointError.
void fill_weights(const ModelSource& source, const std::vector<Weight*>& weights);

}  // namespace switchyard
