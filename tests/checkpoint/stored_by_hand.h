// Checkpoints put together by hand, of tensors that a training run doesn't write.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "safetensors/file_system.h"

namespace switchyard {

// A tensor, cut into slices of the given numbers of elements (none: whole), each in a file of its
// own.
struct HandTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<uint64_t> shape;
  std::string bytes;
  std::vector<uint64_t> slices = {};
};

// Writes the checkpoint `path`. In each file one byte of padding, a tensor of the optimizer's,
// stands before the tensor, so that its elements aren't aligned.
inline void write_by_hand(const std::filesystem::path& path,
                          const std::vector<HandTensor>& tensors) {
  std::filesystem::create_directories(path);
  Manifest manifest{.program_version = "hand", .layout = {.ranks = 1, .expert_group_size = 1}};
  const auto write = [&](const std::string& name, const std::string& bytes) {
    FileOutput out(FileSystem::real(), path / name);
    out.write(bytes);
    out.finish();
    manifest.files.push_back({name, out.size_bytes(), out.chunk_digests()});
  };
  const auto little_endian = [](uint64_t value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const auto numbers = [](const std::vector<uint64_t>& values) {
    std::string text;
    for (const uint64_t value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
    return "[" + text + "]";
  };
  const std::string config = "name: hand\n";
  write("config.yaml", config);
  manifest.config_hash = digest_of(config);
  for (const HandTensor& tensor : tensors) {
    const size_t element = static_cast<size_t>(bits_of(tensor.type)) / 8;
    std::vector<uint64_t> slices = tensor.slices;
    if (slices.empty()) slices = {tensor.bytes.size() / element};
    ManifestTensor entry{.name = tensor.name, .type = tensor.type, .shape = tensor.shape};
    uint64_t first = 0;
    for (size_t i = 0; i < slices.size(); ++i) {
      const std::string file = "f" + std::to_string(manifest.files.size()) + ".safetensors",
                        pad = file + ".pad";
      const bool whole = slices.size() == 1;
      const std::string data = tensor.bytes.substr(first * element, slices[i] * element);
      std::string header = "{\"" + pad + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},")" +
                           tensor.name + (whole ? "" : "#" + std::to_string(i)) +
                           R"(":{"dtype":")" + std::string(name_of(tensor.type)) + R"(","shape":)" +
                           numbers(whole ? tensor.shape : std::vector<uint64_t>{slices[i]}) +
                           R"(,"data_offsets":)" + numbers({1, 1 + data.size()}) + "}}";
      header.resize((header.size() + 7) / 8 * 8, ' ');
      const uint64_t begin = 8 + header.size();
      write(file, little_endian(header.size()) + header + "p" + data);
      entry.slices.push_back(
          {file, begin + 1, begin + 1 + data.size(), first, slices[i], digest_of(data)});
      manifest.tensors.push_back({.name = pad,
                                  .part = TensorPart::kOptimizer,
                                  .type = StoredType::kU8,
                                  .shape = {1},
                                  .slices = {{file, begin, begin + 1, 0, 1, digest_of("p")}}});
      first += slices[i];
    }
    manifest.tensors.push_back(std::move(entry));
  }
  FileOutput out(FileSystem::real(), path / kManifestName);
  out.write(encode_manifest(manifest));
  out.finish();
}

}  // namespace switchyard
