// Writes converted tensors as a directory of Hugging Face.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "conversion/model_source.h"

namespace switchyard {

// A tensor under the name and type that it is written with.
struct WrittenTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  const SourceTensor* source = nullptr;

  uint64_t size_bytes() const { return stored_bytes(type, source->shape).value_or(0); }
  // As SourceTensor::read, in the new type.
  void read(const TakeBytes& take) const;
};

struct HuggingFaceFiles {
  std::vector<std::pair<std::string, std::string>> texts;  // name and content
  std::filesystem::path tokenizer = {};                    // copied; empty: none
  std::string tokenizer_name = {};
};

// Makes the directory and all in it, synced, under another name first: it appears whole or not at
// all. Tensors go to files in the order given, as transformers shards them. Throws CheckpointError,
// SpaceError.
void write_hugging_face(const std::filesystem::path& path,
                        const std::vector<WrittenTensor>& tensors, const HuggingFaceFiles& beside,
                        uint64_t max_file_bytes, FileSystem& files);

// Which tensors, by position, share a file; one that is larger than `max_file_bytes` has its own.
std::vector<std::vector<size_t>> shards_of(const std::vector<WrittenTensor>& tensors,
                                           uint64_t max_file_bytes);

}  // namespace switchyard
