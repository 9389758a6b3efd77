// A checkpoint while it is being written: the one place that knows in which order files, manifest
// and names must reach the disk, so that it appears whole or not at all. Knows nothing of ranks;
// of several processes that write one, one prepares and publishes.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "checkpoint/manifest.h"
#include "safetensors/file_system.h"
#include "safetensors/safetensors.h"

namespace switchyard {

class UnfinishedCheckpoint {
 public:
  // What happens to a checkpoint that has the name already: a run trains a step again after it was
  // resumed from an earlier one; anybody else must not lose a directory by a slip.
  enum class Existing : uint8_t { kReplace, kRefuse };

  // Nothing is touched yet; `files` must outlive it.
  //   path    what it will be called
  //   run_id  see SaveOptions
  UnfinishedCheckpoint(std::filesystem::path path, const std::string& run_id, Existing existing,
                       FileSystem& files);

  const std::filesystem::path& path() const { return path_; }

  // All of these throw as throw_file_error says.
  // Makes the directories, after removing what a killed attempt left behind: with kReplace at any
  // step of this run, else under this name.
  void prepare();

  // config.yaml, the model's index and, if `tokenizer` isn't empty, a copy of that file.
  void write_texts(const std::string& config_text, const SafetensorsIndex& index,
                   const std::filesystem::path& tokenizer, Manifest& manifest) const;

  // Writes one file of tensors of a part, and says in `manifest` what it holds.
  //   read  called for each tensor in the order of the file; hands out exactly its bytes
  void write_tensors(const std::string& file_name, TensorPart part, const HeaderBytes& header,
                     const std::function<void(const StoredTensor&, const TakeBytes&)>& read,
                     Manifest& manifest) const;

  // With all files written: the manifest, then the name. Earlier checkpoints are left alone.
  //   whole  of all processes, in any order
  void publish(Manifest whole);

  // Removes what was written, unless it was published. What can't be removed is removed by the
  // next prepare().
  void discard() noexcept;

 private:
  void write_text(const std::string& name, std::string_view text, Manifest& manifest) const;
  void take_name();

  std::filesystem::path path_, writing_;
  std::string run_id_;
  Existing existing_;
  FileSystem* files_;
  bool published_ = false, replaced_ = false;
};

// The bytes of a tensor that lies in the host's memory, in pieces that stay in cache.
void hand_out(std::span<const std::byte> bytes, const TakeBytes& take);

}  // namespace switchyard
