// Files of tensors in the safetensors format: one file, and Hugging Face's sharded sets of files
// with an index. Reading trusts nothing in them (header.h); errors are CheckpointError naming the
// file and the tensor. bf16 and the like come out as they are stored; nothing is converted.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "safetensors/file_system.h"
#include "safetensors/header.h"
#include "tensor/tensor.h"

namespace switchyard {

// One file, mapped into memory. Move-only.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path, Links links = Links::kFollow,
                              FileSystem& files = FileSystem::real());

  const std::filesystem::path& path() const { return path_; }
  // In the order of their bytes.
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::vector<std::string>& warnings() const { return header_.warnings; }

  bool contains(const std::string& name) const { return places_.contains(name); }
  // Throws CheckpointError naming the file when there is no such tensor.
  const StoredTensor& tensor(const std::string& name) const;
  // The tensor's bytes as they lie in the file, maybe not aligned to its elements; valid as long as
  // this object.
  std::span<const std::byte> data(const std::string& name) const;
  // A copy in host memory. Throws CheckpointError for a type or rank that tensors don't have.
  Tensor read(const std::string& name) const;

 private:
  SafetensorsFile(std::filesystem::path path, FileMapping mapping, SafetensorsHeader header);

  std::filesystem::path path_;
  FileMapping mapping_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, size_t> places_;  // name to position in header_.tensors
};

// The files that hold a set of tensors, seen as one.
class SafetensorsSet {
 public:
  // A file, or a directory that holds `stem`.safetensors.index.json or `stem`.safetensors.
  // Shards are opened relative to their directory, without following links; every tensor of the
  // index must be in the file that it names. Tensors of a shard that the index leaves out are
  // skipped with a warning.
  static SafetensorsSet open(const std::filesystem::path& path, const std::string& stem = "model",
                             FileSystem& files = FileSystem::real());

  // Sorted.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(const std::string& name) const { return file_of_.contains(name); }
  // The file that holds the tensor. Throws CheckpointError naming the set when none does.
  const SafetensorsFile& file_of(const std::string& name) const;
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string, size_t> file_of_;
  std::vector<std::string> names_, warnings_;
};

// Which file holds which tensor: {"metadata": {"total_size": bytes}, "weight_map": {name: file}}.
struct SafetensorsIndex {
  uint64_t total_bytes = 0;                    // of the tensors; written, ignored when read
  std::map<std::string, std::string> file_of;  // tensor to file name
};
// File names are checked: letters, digits and "._-", no leading dot, at most 200.
SafetensorsIndex parse_index(std::string_view json, const std::string& where);
std::string index_text(const SafetensorsIndex& index);
bool is_shard_name(std::string_view name);
// "model-00003-of-00008.safetensors"; `number` counts from 1.
std::string shard_name(const std::string& stem, int64_t number, int64_t of);

// A tensor to write: `data` holds the host's bytes.
struct TensorToWrite {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<uint64_t> shape;
  std::span<const std::byte> data;
};
TensorToWrite tensor_to_write(std::string name, TensorView host_tensor);

// Writes a new file, synced to the disk; what exists already is an error. A failure leaves a part
// of the file behind. Throws SpaceError or CheckpointError naming it.
void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       FileSystem& files = FileSystem::real());
// The same in place of what was there: the new file appears whole or not at all.
void replace_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata = {},
                         FileSystem& files = FileSystem::real());

}  // namespace switchyard
