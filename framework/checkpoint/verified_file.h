// A file of a checkpoint, read through its hashes: no byte comes out of a chunk whose hash differs.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "safetensors/file_system.h"

namespace switchyard {

class VerifiedFile {
 public:
  // Throws CheckpointError when the file isn't there or its size differs. All must outlive this.
  VerifiedFile(FileSystem& files, const std::filesystem::path& directory, const Manifest& manifest,
               const ManifestFile& record);

  uint64_t size_bytes() const { return record_.size_bytes; }
  std::string where() const { return input_.path().string(); }

  // Hands out bytes begin..end-1 in consecutive pieces. Whole chunks are read and the last one
  // kept, so that reading in order reads every byte once. Throws CheckpointError naming the file,
  // the damaged bytes and the tensor that they are of.
  void read(uint64_t begin, uint64_t end,
            const std::function<void(const std::byte* data, size_t size_bytes)>& take);
  std::string read_text(uint64_t begin, uint64_t end);

  // Reads the chunk: whether it is as its hash says. Throws CheckpointError where reading fails.
  bool check_chunk(uint64_t chunk);
  // "the file is damaged between bytes 0 and 1048576, in tensor "a"": which tensors there differ
  // from their own hashes. Throws CheckpointError where reading fails.
  std::string damage(uint64_t begin, uint64_t end);

 private:
  const Manifest& manifest_;
  const ManifestFile& record_;
  FileInput input_;
  std::vector<std::byte> bytes_;  // of chunk_
  uint64_t chunk_ = UINT64_MAX;
  std::map<const TensorSlice*, bool> damaged_;  // those that were looked at
};

}  // namespace switchyard
