#include <fmt/format.h>

#include <map>
#include <set>

#include "base/errors.h"
#include "base/version.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/unfinished.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

struct PlannedFile {
  TensorPart part = TensorPart::kModel;
  std::string name;
  std::vector<const TensorSource*> sources;
};

uint64_t checked_bytes(const TensorSource& source, const Path& path) {
  const auto bytes = stored_bytes(source.type, source.shape);
  if (bytes && is_tensor_name(source.name)) return *bytes;
  throw CheckpointError(fmt::format("tensor \"{}\" of type {} cannot be kept in a checkpoint",
                                    source.name, name_of(source.type)),
                        path.string());
}

// The files of a part, each as full as it may be, in the order of the sources.
void plan_part(const CheckpointContents& contents, TensorPart part, const std::string& stem,
               uint64_t max_file_bytes, const Path& path, std::vector<PlannedFile>& files) {
  const size_t first = files.size();
  uint64_t left = 0;
  for (const TensorSource& source : contents.tensors) {
    if (source.part != part) continue;
    const uint64_t bytes = checked_bytes(source, path);
    if (files.size() == first || bytes > left) {
      files.push_back({.part = part, .name = "", .sources = {}});
      left = std::max(max_file_bytes, bytes);
    }
    files.back().sources.push_back(&source);
    left -= bytes;
  }
  const auto count = static_cast<int64_t>(files.size() - first);
  for (size_t i = first; i < files.size(); ++i) {
    files[i].name = shard_name(stem, static_cast<int64_t>(i - first) + 1, count);
  }
}

std::vector<PlannedFile> plan(const CheckpointContents& contents, uint64_t max_file_bytes,
                              const Path& path) {
  std::set<std::string_view> names;
  for (const TensorSource& source : contents.tensors) {
    if (names.insert(source.name).second) continue;
    throw CheckpointError(fmt::format("tensor \"{}\" is there twice", source.name), path.string());
  }
  std::vector<PlannedFile> files;
  plan_part(contents, TensorPart::kModel, "model", max_file_bytes, path, files);
  plan_part(contents, TensorPart::kOptimizer, "optimizer", max_file_bytes, path, files);
  return files;
}

SafetensorsIndex index_of(const std::vector<PlannedFile>& files) {
  SafetensorsIndex index;
  for (const PlannedFile& file : files) {
    if (file.part != TensorPart::kModel) continue;
    for (const TensorSource* source : file.sources) {
      index.file_of[source->name] = file.name;
      index.total_bytes += *stored_bytes(source->type, source->shape);
    }
  }
  return index;
}

void write_file(const UnfinishedCheckpoint& checkpoint, const PlannedFile& file,
                Manifest& manifest) {
  std::map<std::string_view, const TensorSource*> sources;
  std::vector<StoredTensor> entries;
  for (const TensorSource* source : file.sources) {
    sources[source->name] = source;
    entries.push_back({.name = source->name, .type = source->type, .shape = source->shape});
  }
  const HeaderBytes header = make_header(std::move(entries), {}, checkpoint.path().string());
  checkpoint.write_tensors(
      file.name, file.part, header,
      [&](const StoredTensor& tensor, const TakeBytes& take) {
        sources.at(tensor.name)->read(take);
      },
      manifest);
}

}  // namespace

Path write_checkpoint(const Path& path, const CheckpointContents& contents, uint64_t max_file_bytes,
                      FileSystem& files) {
  const std::vector<PlannedFile> planned = plan(contents, max_file_bytes, path);
  Manifest manifest{.program_version = kVersion,
                    .step = contents.step,
                    .tokens_seen = contents.tokens_seen,
                    .sampler_position = contents.sampler_position,
                    .seed = contents.seed,
                    .layout = {},
                    .config_hash = digest_of(contents.config_text),
                    .dataset_hash = contents.dataset_hash};
  UnfinishedCheckpoint checkpoint(path, "alone", UnfinishedCheckpoint::Existing::kRefuse, files);
  try {
    checkpoint.prepare();
    checkpoint.write_texts(contents.config_text, index_of(planned), contents.tokenizer, manifest);
    for (const PlannedFile& file : planned) write_file(checkpoint, file, manifest);
    checkpoint.publish(std::move(manifest));
  } catch (...) {
    checkpoint.discard();
    throw;
  }
  return checkpoint.path();
}

}  // namespace switchyard
