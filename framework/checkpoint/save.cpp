#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <map>
#include <set>
#include <span>
#include <system_error>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/version.h"
#include "checkpoint/agree.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/slice_gather.h"
#include "checkpoint/tensors.h"
#include "safetensors/safetensors.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

ManifestFile record_of(const FileOutput& out) {
  return {.name = out.path().filename().string(),
          .size_bytes = out.size_bytes(),
          .chunks = out.chunk_digests()};
}

class Saver {
 public:
  Saver(const Path& directory, const CheckpointState& state, const Groups& groups,
        const SaveOptions& options, FileSystem& files)
      : directory_(directory),
        state_(state),
        world_(*groups.world),
        tensor_group_(*groups.tensor),
        expert_ranks_(groups.expert_ranks()),
        options_(options),
        files_(files),
        writing_(directory / writing_name(state.step, options.run_id)),
        final_(directory / step_name(state.step)),
        tensors_(tensors_of_job(state.weights, state.optimizer, world_)),
        owners_(owners_of(tensors_, groups)) {
    SWITCHYARD_CHECK(state.step >= 0 && is_shard_name(options.run_id), "step ", state.step,
                     ", run id ", options.run_id);
    name_files();
  }

  Path save() {
    try {
      run_and_agree(world_, [&] {
        if (world_.rank() != 0) return;
        prepare();
        write_texts();
      });
      // Writing a part takes all ranks of a place: none may begin one that another won't.
      run_and_agree(world_, [&] { write_part(TensorPart::kModel); });
      run_and_agree(world_, [&] { write_part(TensorPart::kOptimizer); });
      const std::vector<std::string> parts = gather_texts(world_, encode_manifest(manifest_));
      run_and_agree(world_, [&] {
        if (world_.rank() == 0) commit(parts);
      });
    } catch (...) {
      // What can't be removed is removed before the next checkpoint.
      if (world_.rank() == 0 && !committed_) remove_directory(writing_, files_);
      throw;
    }
    if (world_.rank() == 0) {
      remove_older_checkpoints(directory_, state_.step, options_.keep, options_.run_id, files_);
    }
    return final_;
  }

 private:
  static constexpr const char* kStems[] = {"model", "optimizer"};
  static size_t index_of(TensorPart part) { return part == TensorPart::kModel ? 0 : 1; }

  // A rank that writes nothing of a part has no file of it, and no number either.
  void name_files() {
    for (const TensorPart part : {TensorPart::kModel, TensorPart::kOptimizer}) {
      std::set<int> writers;
      for (size_t i = 0; i < tensors_.size(); ++i) {
        if (tensors_[i].part == part) writers.insert(owners_[i]);
      }
      int64_t number = 0;
      for (const int rank : writers) {
        file_names_[index_of(part)][rank] =
            shard_name(kStems[index_of(part)], ++number, static_cast<int64_t>(writers.size()));
      }
    }
  }

  void prepare() {
    make_directories(directory_, files_);
    std::vector<std::string> names;
    if (const int error = files_.list(directory_, names)) {
      throw_file_error(error, "cannot read the directory", directory_);
    }
    // Of an attempt of this run that was killed; what can't be removed fails below if it matters.
    for (const std::string& name : names) {
      if (is_unfinished(name, options_.run_id)) remove_directory(directory_ / name, files_);
    }
    if (const int error = files_.make_directory(writing_)) {
      throw_file_error(error, "cannot make the directory", writing_);
    }
  }

  void write_text(const std::string& name, std::string_view text) {
    FileOutput out(files_, writing_ / name);
    out.write(text);
    out.finish();
    manifest_.files.push_back(record_of(out));
  }

  void write_texts() {
    write_text("config.yaml", state_.config_text);
    SafetensorsIndex index;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const GlobalTensor& tensor = tensors_[i];
      if (tensor.part != TensorPart::kModel) continue;
      index.file_of[tensor.name] = file_names_[index_of(TensorPart::kModel)].at(owners_[i]);
      index.total_bytes += static_cast<uint64_t>(tensor.shape.elements()) * size_of(tensor.dtype);
    }
    write_text("model.safetensors.index.json", index_text(index));
    if (!state_.tokenizer.empty()) {
      FileInput in(files_, state_.tokenizer, Links::kFollow);
      std::string model(in.size_bytes(), '\0');
      in.read(0, model.data(), model.size());
      write_text(kCheckpointTokenizer, model);
    }
  }

  // The tensors of the part that a rank writes, as its file has them.
  HeaderBytes header_of(TensorPart part, int rank) const {
    std::vector<StoredTensor> entries;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const GlobalTensor& tensor = tensors_[i];
      if (tensor.part != part || owners_[i] != rank) continue;
      entries.push_back({.name = tensor.name,
                         .type = stored_type(tensor.dtype),
                         .shape = stored_shape(tensor.shape)});
    }
    return make_header(std::move(entries), {}, writing_.string());
  }

  std::map<std::string_view, const GlobalTensor*> by_name(TensorPart part) const {
    std::map<std::string_view, const GlobalTensor*> tensors;
    for (const GlobalTensor& tensor : tensors_) {
      if (tensor.part == part) tensors[tensor.name] = &tensor;
    }
    return tensors;
  }

  void write_part(TensorPart part) {
    const auto tensors = by_name(part);
    std::vector<std::vector<const GlobalTensor*>> sliced;  // by rank of the place
    HeaderBytes mine;
    for (int slice = 0; slice < tensor_group_.size(); ++slice) {
      HeaderBytes made = header_of(part, world_.rank() - tensor_group_.rank() + slice);
      sliced.emplace_back();
      for (const StoredTensor& entry : made.header.tensors) {
        const GlobalTensor* tensor = tensors.at(entry.name);
        if (tensor->sliced) sliced.back().push_back(tensor);
      }
      if (slice == tensor_group_.rank()) mine = std::move(made);
    }
    SliceGather slices(tensor_group_, std::move(sliced));
    std::exception_ptr error;
    try {
      write_file(part, mine, tensors, slices);
    } catch (...) {  // the other ranks of the place wait for this one's slices
      error = std::current_exception();
    }
    slices.finish();
    if (error) std::rethrow_exception(error);
  }

  // This rank's file of the part.
  void write_file(TensorPart part, const HeaderBytes& made,
                  const std::map<std::string_view, const GlobalTensor*>& tensors,
                  SliceGather& slices) {
    const auto& names = file_names_[index_of(part)];
    const auto mine = names.find(world_.rank());
    if (mine == names.end()) return;
    FileOutput out(files_, writing_ / mine->second);
    out.write(made.bytes);
    for (const StoredTensor& entry : made.header.tensors) {
      const GlobalTensor& tensor = *tensors.at(entry.name);
      SWITCHYARD_CHECK(tensor.held, tensor.name, " is written by a rank that does not hold it");
      Digest digest;
      if (tensor.sliced) {
        digest = write_bytes(out, slices.next(), HostMemory::instance());
      } else {
        const auto* bytes = static_cast<const std::byte*>(tensor.value.raw());
        digest = write_bytes(out, {bytes, tensor.value.size_bytes()}, tensor.weight->memory());
      }
      manifest_.tensors.push_back(
          {.name = entry.name,
           .part = part,
           .type = entry.type,
           .shape = entry.shape,
           .slices = {{.file = mine->second,
                       .begin = entry.begin,
                       .end = entry.end,
                       .first_element = 0,
                       .elements = static_cast<uint64_t>(tensor.shape.elements()),
                       .digest = digest}}});
    }
    out.finish();
    manifest_.files.push_back(record_of(out));
  }

  // Appends bytes that lie in `memory`; returns their hash.
  Digest write_bytes(FileOutput& out, std::span<const std::byte> source, Memory& memory) {
    Hasher hasher;
    for (size_t at = 0; at < source.size(); at += kChunkBytes) {
      const size_t piece = std::min<size_t>(kChunkBytes, source.size() - at);
      const std::byte* bytes = source.data() + at;
      if (!memory.host_accessible()) {
        staging_.resize(kChunkBytes);
        memory.copy_out(staging_.data(), bytes, piece);
        bytes = staging_.data();
      }
      hasher.add(bytes, piece);
      out.write(bytes, piece);
    }
    return hasher.digest();
  }

  // Rank 0: the manifest of all ranks' parts, then the directory's final name.
  void commit(const std::vector<std::string>& parts) {
    Manifest whole{.program_version = kVersion,
                   .step = state_.step,
                   .tokens_seen = state_.tokens_seen,
                   .sampler_position = state_.sampler_position,
                   .seed = state_.seed,
                   .layout = {.ranks = world_.size(), .expert_group_size = expert_ranks_},
                   .config_hash = digest_of(state_.config_text),
                   .dataset_hash = state_.dataset_hash};
    for (const std::string& bytes : parts) {
      Manifest part = decode_manifest(bytes, writing_.string());
      std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(whole.tensors));
      std::move(part.files.begin(), part.files.end(), std::back_inserter(whole.files));
    }
    std::sort(whole.tensors.begin(), whole.tensors.end(),
              [](const ManifestTensor& a, const ManifestTensor& b) {
                return std::tie(a.part, a.name) < std::tie(b.part, b.name);
              });
    std::sort(whole.files.begin(), whole.files.end(),
              [](const ManifestFile& a, const ManifestFile& b) { return a.name < b.name; });
    check_manifest(whole, writing_.string());

    const Path temporary = writing_ / "manifest.pb.writing";
    FileOutput out(files_, temporary);
    out.write(encode_manifest(whole));
    out.finish();
    rename(temporary, writing_ / kManifestName);
    sync_directory(writing_, files_);
    publish();
    sync_directory(directory_, files_);
    if (replaced_) {
      if (const int error = remove_directory(writing_, files_)) {
        log_warning("the checkpoint that was replaced could not be removed: {}: {}",
                    writing_.string(), std::generic_category().message(error));
      }
    }
  }

  void publish() {
    int error = files_.rename(writing_, final_);
    if (error == ENOTEMPTY || error == EEXIST) {
      // A checkpoint of the same step, from before an earlier one was resumed, changes places.
      error = files_.exchange(writing_, final_);
      replaced_ = error == 0;
      if (error == EINVAL || error == ENOSYS) {
        throw CheckpointError(
            "there is a checkpoint of this step already, and the file system "
            "cannot replace it",
            final_.string(), "remove or rename that directory");
      }
    }
    if (error != 0) throw_file_error(error, "cannot rename the finished directory to", final_);
    committed_ = true;
  }

  void rename(const Path& from, const Path& to) {
    if (const int error = files_.rename(from, to)) {
      throw_file_error(error, "cannot rename the file to", to);
    }
  }

  const Path directory_;
  const CheckpointState& state_;
  Collectives& world_;
  Collectives& tensor_group_;
  const int expert_ranks_;
  const SaveOptions& options_;
  FileSystem& files_;
  const Path writing_, final_;
  const std::vector<GlobalTensor> tensors_;
  const std::vector<int> owners_;
  std::map<int, std::string> file_names_[2];  // by part and rank
  Manifest manifest_;                         // tensors and files of this rank
  std::vector<std::byte> staging_;            // of device memory
  bool committed_ = false, replaced_ = false;
};

}  // namespace

std::filesystem::path save_checkpoint(const Path& directory, const CheckpointState& state,
                                      const Groups& groups, const SaveOptions& options,
                                      FileSystem& files) {
  return Saver(directory, state, groups, options, files).save();
}

}  // namespace switchyard
