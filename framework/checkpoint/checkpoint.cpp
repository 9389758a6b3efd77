// Opening a checkpoint and reading single files and tensors of it.
#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <cerrno>
#include <mutex>
#include <set>

#include "base/errors.h"
#include "checkpoint/directory.h"
#include "checkpoint/pieces.h"
#include "checkpoint/verified_file.h"

namespace switchyard {

namespace {
using Path = std::filesystem::path;
}

// Shared by copies, which read the same files.
struct Checkpoint::Headers {
  PiecesByFile pieces;
  std::mutex mutex;
  std::set<std::string> checked;  // files whose header agrees with the manifest
};

Checkpoint::Checkpoint(Path path, Manifest manifest, FileSystem& files)
    : path_(std::move(path)),
      manifest_(std::make_shared<const Manifest>(std::move(manifest))),
      files_(&files),
      headers_(std::make_shared<Headers>()) {
  for (size_t i = 0; i < manifest_->tensors.size(); ++i) places_[manifest_->tensors[i].name] = i;
  headers_->pieces = pieces_by_file(*manifest_);
}

Checkpoint Checkpoint::open(const Path& path, FileSystem& files) {
  const Path named = path.has_filename() ? path : path.parent_path();
  if (is_unfinished(named.filename().string())) {
    throw CheckpointError("the directory holds a checkpoint that was never finished", path.string(),
                          "use one whose name has no \".writing-\"");
  }
  const Path file = path / kManifestName;
  int opened = -1;
  uint64_t size = 0;
  const int error = files.open(file, Links::kRefuse, opened, size);
  if (error == 0) files.close(opened);
  if (error == ENOENT || error == ENOTDIR) {
    throw CheckpointError("not a checkpoint: there is no manifest.pb", path.string(),
                          "give a directory such as runs/<name>/checkpoints/step-00001200");
  }
  FileInput input(files, file, Links::kRefuse);
  if (input.size_bytes() > kMaxManifestBytes) {
    throw CheckpointError(fmt::format("bad manifest: {} bytes, at most {} are allowed",
                                      input.size_bytes(), kMaxManifestBytes),
                          file.string());
  }
  std::string bytes(input.size_bytes(), '\0');
  input.read(0, bytes.data(), bytes.size());
  Manifest manifest = decode_manifest(bytes, file.string());
  check_manifest(manifest, file.string());
  return Checkpoint(path, std::move(manifest), files);
}

std::string Checkpoint::read_file(const std::string& name) const {
  const ManifestFile* record = manifest_->file(name);
  if (record == nullptr) {
    throw CheckpointError(fmt::format("the checkpoint has no file \"{}\"", name), path_.string());
  }
  VerifiedFile file(*files_, path_, *manifest_, *record);
  return file.read_text(0, file.size_bytes());
}

const ManifestTensor& Checkpoint::tensor(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    throw CheckpointError(fmt::format("the checkpoint has no tensor \"{}\"", name), path_.string());
  }
  return manifest_->tensors[found->second];
}

void Checkpoint::read_tensor(const std::string& name, const TakeBytes& take) const {
  for (const TensorSlice& slice : tensor(name).slices) {
    VerifiedFile file(*files_, path_, *manifest_, *manifest_->file(slice.file));
    check_header_once(file, slice.file);
    file.read(slice.begin, slice.end, [&](const std::byte* data, size_t size_bytes) {
      take({data, size_bytes});
    });
  }
}

std::vector<std::byte> Checkpoint::read_tensor(const std::string& name) const {
  std::vector<std::byte> bytes;
  bytes.reserve(stored_bytes(tensor(name).type, tensor(name).shape).value());
  read_tensor(name, [&](std::span<const std::byte> piece) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  });
  return bytes;
}

void Checkpoint::check_header_once(VerifiedFile& file, const std::string& name) const {
  {
    const std::lock_guard lock(headers_->mutex);
    if (headers_->checked.contains(name)) return;
  }
  check_header(file, headers_->pieces.at(name));
  const std::lock_guard lock(headers_->mutex);
  headers_->checked.insert(name);
}

}  // namespace switchyard
