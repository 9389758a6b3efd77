// What manifest.pb says: which tensors and files a checkpoint holds, where, and their hashes. Knows
// nothing of directories; the format is manifest.proto, which only manifest.cpp sees.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "safetensors/header.h"

namespace switchyard {

inline constexpr uint32_t kManifestFormat = 1;
// Reading and writing refuse more: about 4 TiB of files.
inline constexpr uint64_t kMaxManifestBytes = uint64_t{64} << 20;

enum class TensorPart : uint8_t { kModel, kOptimizer };

// Consecutive elements of a tensor and where they lie.
struct TensorSlice {
  std::string file;
  uint64_t begin = 0, end = 0;  // bytes of the file
  uint64_t first_element = 0, elements = 0;
  Digest digest;  // of these bytes
};

struct ManifestTensor {
  std::string name;  // global, the expert's number in it
  TensorPart part = TensorPart::kModel;
  StoredType type = StoredType::kF32;
  std::vector<uint64_t> shape;
  std::vector<TensorSlice> slices;

  // What the slice is called in its file.
  std::string slice_name(size_t slice) const {
    return slices.size() == 1 ? name : name + "#" + std::to_string(slice);
  }
};

struct ManifestFile {
  std::string name;
  uint64_t size_bytes = 0;
  std::vector<Digest> chunks;  // of every kChunkBytes
};

struct CheckpointLayout {
  int64_t ranks = 1, expert_group_size = 1;
  bool sharded_optimizer = false;
};

struct Manifest {
  std::string program_version;
  int64_t step = 0;              // optimizer steps done
  int64_t tokens_seen = 0;       // target tokens trained on
  int64_t sampler_position = 0;  // global index of the next sample
  uint64_t seed = 0;
  CheckpointLayout layout;
  Digest config_hash, dataset_hash;  // all zero: none
  std::vector<ManifestTensor> tensors;
  std::vector<ManifestFile> files;

  // nullptr when there is none.
  const ManifestFile* file(std::string_view name) const;
};

// Throws CheckpointError when it would exceed kMaxManifestBytes.
std::string encode_manifest(const Manifest& manifest);

// Refuses what is damaged, nested too deeply, of another format version or holds unknown fields.
// Throws CheckpointError naming `where`.
Manifest decode_manifest(std::string_view bytes, const std::string& where);

// Refuses names that are unfit or twice there, sizes that overflow or don't fit together, slices
// that don't cover their tensor or lie outside their file. What passes can be read without further
// checks of numbers. Throws CheckpointError naming `where` and the tensor or file.
void check_manifest(const Manifest& manifest, const std::string& where);

}  // namespace switchyard
