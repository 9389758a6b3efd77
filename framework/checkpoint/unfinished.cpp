#include "checkpoint/unfinished.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <tuple>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

ManifestFile record_of(const FileOutput& out) {
  return {.name = out.path().filename().string(),
          .size_bytes = out.size_bytes(),
          .chunks = out.chunk_digests()};
}

uint64_t elements_of(const StoredTensor& tensor) {
  uint64_t elements = 1;
  for (const uint64_t size : tensor.shape) elements *= size;
  return elements;
}

void sort_by_name(Manifest& manifest) {
  std::sort(manifest.tensors.begin(), manifest.tensors.end(),
            [](const ManifestTensor& a, const ManifestTensor& b) {
              return std::tie(a.part, a.name) < std::tie(b.part, b.name);
            });
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ManifestFile& a, const ManifestFile& b) { return a.name < b.name; });
}

}  // namespace

void hand_out(std::span<const std::byte> bytes, const TakeBytes& take) {
  for (size_t at = 0; at < bytes.size(); at += kChunkBytes) {
    take(bytes.subspan(at, std::min<size_t>(kChunkBytes, bytes.size() - at)));
  }
}

UnfinishedCheckpoint::UnfinishedCheckpoint(Path path, const std::string& run_id, Existing existing,
                                           FileSystem& files)
    : path_(path.has_filename() ? std::move(path) : path.parent_path()),
      writing_(path_.parent_path() / writing_name(path_.filename().string(), run_id)),
      run_id_(run_id),
      existing_(existing),
      files_(&files) {
  SWITCHYARD_CHECK(is_shard_name(run_id), "run id ", run_id);
}

void UnfinishedCheckpoint::prepare() {
  const Path directory = path_.parent_path();
  if (!directory.empty()) make_directories(directory, *files_);
  if (existing_ == Existing::kRefuse) refuse_existing(path_, *files_);
  std::vector<std::string> names;
  if (const int error = files_->list(directory.empty() ? "." : directory, names)) {
    throw_file_error(error, "cannot read the directory", directory);
  }
  // What can't be removed fails below if it matters.
  for (const std::string& name : names) {
    const bool of_run = existing_ == Existing::kReplace && is_unfinished(name, run_id_);
    if (of_run || name == writing_.filename()) remove_directory(directory / name, *files_);
  }
  if (const int error = files_->make_directory(writing_)) {
    throw_file_error(error, "cannot make the directory", writing_);
  }
}

void UnfinishedCheckpoint::write_text(const std::string& name, std::string_view text,
                                      Manifest& manifest) const {
  FileOutput out(*files_, writing_ / name);
  out.write(text);
  out.finish();
  manifest.files.push_back(record_of(out));
}

void UnfinishedCheckpoint::write_texts(const std::string& config_text,
                                       const SafetensorsIndex& index, const Path& tokenizer,
                                       Manifest& manifest) const {
  write_text("config.yaml", config_text, manifest);
  write_text("model.safetensors.index.json", index_text(index), manifest);
  if (tokenizer.empty()) return;
  FileInput in(*files_, tokenizer, Links::kFollow);
  std::string model(in.size_bytes(), '\0');
  in.read(0, model.data(), model.size());
  write_text(kCheckpointTokenizer, model, manifest);
}

void UnfinishedCheckpoint::write_tensors(
    const std::string& file_name, TensorPart part, const HeaderBytes& header,
    const std::function<void(const StoredTensor&, const TakeBytes&)>& read,
    Manifest& manifest) const {
  FileOutput out(*files_, writing_ / file_name);
  out.write(header.bytes);
  for (const StoredTensor& tensor : header.header.tensors) {
    Hasher hasher;
    uint64_t written = 0;
    read(tensor, [&](std::span<const std::byte> bytes) {
      hand_out(bytes, [&](std::span<const std::byte> piece) {
        hasher.add(piece.data(), piece.size());
        out.write(piece.data(), piece.size());
      });
      written += bytes.size();
    });
    SWITCHYARD_CHECK(written == tensor.size_bytes(), tensor.name, ": ", written, " bytes of ",
                     tensor.size_bytes());
    manifest.tensors.push_back({.name = tensor.name,
                                .part = part,
                                .type = tensor.type,
                                .shape = tensor.shape,
                                .slices = {{.file = file_name,
                                            .begin = tensor.begin,
                                            .end = tensor.end,
                                            .first_element = 0,
                                            .elements = elements_of(tensor),
                                            .digest = hasher.digest()}}});
  }
  out.finish();
  manifest.files.push_back(record_of(out));
}

void UnfinishedCheckpoint::publish(Manifest whole) {
  sort_by_name(whole);
  check_manifest(whole, writing_.string());
  const Path temporary = writing_ / "manifest.pb.writing";
  FileOutput out(*files_, temporary);
  out.write(encode_manifest(whole));
  out.finish();
  const Path manifest = writing_ / kManifestName;
  if (const int error = files_->rename(temporary, manifest)) {
    throw_file_error(error, "cannot rename the file to", manifest);
  }
  sync_directory(writing_, *files_);
  take_name();
  sync_directory(path_.has_parent_path() ? path_.parent_path() : ".", *files_);
  if (!replaced_) return;
  if (const int error = remove_directory(writing_, *files_)) {
    log_warning("the checkpoint that was replaced could not be removed: {}: {}", writing_.string(),
                std::generic_category().message(error));
  }
}

void UnfinishedCheckpoint::take_name() {
  int error = files_->rename(writing_, path_);
  const bool occupied = error == ENOTEMPTY || error == EEXIST;
  if (occupied && existing_ == Existing::kReplace) {
    // A checkpoint of the same step, from before an earlier one was resumed, changes places.
    error = files_->exchange(writing_, path_);
    replaced_ = error == 0;
    if (error == EINVAL || error == ENOSYS) {
      throw CheckpointError(
          "there is a checkpoint of this step already, and the file system cannot replace it",
          path_.string(), "remove or rename that directory");
    }
  }
  if (error != 0) throw_file_error(error, "cannot rename the finished directory to", path_);
  published_ = true;
}

void UnfinishedCheckpoint::discard() noexcept {
  if (published_) return;
  try {
    remove_directory(writing_, *files_);
  } catch (const std::exception&) {  // out of memory: the next prepare() removes it
  }
}

}  // namespace switchyard
