#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "base/errors.h"
#include "checkpoint/agree.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/tensors.h"
#include "checkpoint/verified_file.h"
#include "safetensors/safetensors.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

// A slice in its file and the tensor that it is of.
struct Piece {
  const ManifestTensor* tensor = nullptr;
  size_t slice = 0;

  const TensorSlice& place() const { return tensor->slices[slice]; }
};

// Fills what this rank holds from one checkpoint.
class Loader {
 public:
  Loader(const Path& path, const Manifest& manifest, FileSystem& files,
         std::vector<GlobalTensor> tensors, bool with_optimizer)
      : path_(path), manifest_(manifest), files_(files), tensors_(std::move(tensors)) {
    for (const ManifestTensor& tensor : manifest_.tensors) {
      if (tensor.part == TensorPart::kOptimizer && !with_optimizer) continue;
      stored_[tensor.name] = &tensor;
      for (size_t i = 0; i < tensor.slices.size(); ++i) {
        pieces_[tensor.slices[i].file].push_back({&tensor, i});
      }
    }
    for (auto& [file, pieces] : pieces_) {
      std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
        return std::pair(a.place().begin, a.place().end) <
               std::pair(b.place().begin, b.place().end);
      });
    }
  }

  // Compares all that the model has with all that is stored, experts of other ranks included.
  void match() const {
    std::string missing, shapes, extra;
    int missing_count = 0, shapes_count = 0, extra_count = 0;
    std::unordered_map<std::string_view, const GlobalTensor*> wanted;
    for (const GlobalTensor& tensor : tensors_) {
      wanted[tensor.name] = &tensor;
      const auto found = stored_.find(tensor.name);
      if (found == stored_.end()) {
        add(missing, missing_count, tensor.name);
      } else if (const ManifestTensor& stored = *found->second;
                 stored.type != stored_type(tensor.dtype) ||
                 stored.shape != stored_shape(tensor.shape) || stored.part != tensor.part) {
        add(shapes, shapes_count,
            fmt::format("{} ({} [{}] stored, {} {} wanted)", tensor.name, name_of(stored.type),
                        fmt::join(stored.shape, ", "), name_of(stored_type(tensor.dtype)),
                        tensor.shape.text()));
      }
    }
    for (const auto& [name, tensor] : stored_) {
      if (!wanted.contains(name)) add(extra, extra_count, name);
    }
    std::string problem;
    const auto report = [&problem](std::string_view what, const std::string& names, int count) {
      if (count == 0) return;
      problem += fmt::format("{}{} tensor{} {}: {}{}", problem.empty() ? "" : "; ", count,
                             count == 1 ? "" : "s", what, names, count > kNamed ? ", ..." : "");
    };
    report("missing", missing, missing_count);
    report("of another shape or dtype", shapes, shapes_count);
    report("that the model does not have", extra, extra_count);
    if (!problem.empty()) {
      throw CheckpointError("the checkpoint does not fit the config: " + problem, path_.string(),
                            "its own config is config.yaml in that directory");
    }
  }

  // Reads the files with anything that this rank holds. One rank looks at `everything` else too,
  // headers and files without tensors, so that between the ranks every byte is checked.
  void read(bool everything) const {
    std::unordered_map<std::string_view, const GlobalTensor*> held;
    for (const GlobalTensor& tensor : tensors_) {
      if (tensor.held) held[tensor.name] = &tensor;
    }
    for (const auto& [name, pieces] : pieces_) {
      const bool needed = std::any_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
        return held.contains(piece.tensor->name);
      });
      if (!needed && !everything) continue;
      VerifiedFile file(files_, path_, manifest_, *manifest_.file(name));
      check_header(file, pieces);
      for (const Piece& piece : pieces) {
        const auto found = held.find(piece.tensor->name);
        if (found != held.end()) read_piece(file, piece, *found->second);
      }
    }
    if (everything) check_other_files();
  }

 private:
  static constexpr int kNamed = 5;  // tensors in an error

  static void add(std::string& names, int& count, const std::string& name) {
    if (count < kNamed) names += (count ? ", " : "") + name;
    ++count;
  }

  void check_other_files() const {
    std::set<std::string_view> with_tensors;
    for (const ManifestTensor& tensor : manifest_.tensors) {
      for (const TensorSlice& slice : tensor.slices) with_tensors.insert(slice.file);
    }
    for (const ManifestFile& record : manifest_.files) {
      if (with_tensors.contains(record.name)) continue;
      VerifiedFile file(files_, path_, manifest_, record);
      file.read(0, file.size_bytes(), [](const std::byte*, size_t) {});
    }
  }

  // The file itself must say what the manifest says of it.
  static void check_header(VerifiedFile& file, const std::vector<Piece>& pieces) {
    const std::string where = file.where();
    const std::string first = file.read_text(0, std::min<uint64_t>(8, file.size_bytes()));
    const auto* bytes = reinterpret_cast<const std::byte*>(first.data());
    const uint64_t length = read_header_length({bytes, first.size()}, file.size_bytes(), where);
    const auto header = parse_header(file.read_text(8, 8 + length), file.size_bytes(), where);
    std::unordered_map<std::string_view, const StoredTensor*> in_file;
    for (const StoredTensor& stored : header.tensors) in_file[stored.name] = &stored;
    for (const Piece& piece : pieces) {
      const TensorSlice& slice = piece.place();
      const std::string name = piece.tensor->slice_name(piece.slice);
      const auto found = in_file.find(name);
      if (found == in_file.end() || found->second->type != piece.tensor->type ||
          found->second->begin != slice.begin || found->second->end != slice.end) {
        throw CheckpointError(
            fmt::format("the file and the manifest disagree about tensor \"{}\"", name), where);
      }
      in_file.erase(found);
    }
    if (!in_file.empty()) {
      throw CheckpointError(fmt::format("the manifest does not know tensor \"{}\" of the file",
                                        in_file.begin()->first),
                            where);
    }
  }

  static void read_piece(VerifiedFile& file, const Piece& piece, const GlobalTensor& tensor) {
    const TensorSlice& slice = piece.place();
    const auto bytes = [&](int64_t elements) {
      return elements * static_cast<int64_t>(size_of(tensor.dtype));
    };
    const ElementRuns runs = {tensor.runs.count, bytes(tensor.runs.length),
                              bytes(tensor.runs.first), bytes(tensor.runs.stride)};
    auto at = bytes(static_cast<int64_t>(slice.first_element));  // of the tensor
    file.read(slice.begin, slice.end, [&](const std::byte* data, size_t size_bytes) {
      const int64_t end = at + static_cast<int64_t>(size_bytes);
      // From the last run that begins no later than these bytes.
      const int64_t before = std::max<int64_t>(0, at - runs.first);
      for (int64_t run = runs.stride > 0 ? before / runs.stride : 0; run < runs.count; ++run) {
        const int64_t whole = runs.first + run * runs.stride;
        if (whole >= end) break;
        const int64_t from = std::max(at, whole), to = std::min(end, whole + runs.length);
        if (from >= to) continue;
        tensor.weight->memory().copy_in(
            static_cast<std::byte*>(tensor.value.raw()) + run * runs.length + (from - whole),
            data + (from - at), static_cast<size_t>(to - from));
      }
      at = end;
    });
  }

  const Path& path_;
  const Manifest& manifest_;
  FileSystem& files_;
  const std::vector<GlobalTensor> tensors_;
  std::map<std::string, const ManifestTensor*> stored_;  // by name
  std::map<std::string, std::vector<Piece>> pieces_;     // by file, in the order of their bytes
};

void load_all(const Checkpoint& checkpoint, FileSystem& files, const std::vector<Weight*>& weights,
              const std::vector<OptimizerState>& optimizer, bool with_optimizer,
              Collectives& world) {
  std::vector<GlobalTensor> tensors =
      tensors_of_job({weights.begin(), weights.end()}, optimizer, world);
  run_and_agree(world, [&] {
    const Loader loader(checkpoint.path(), checkpoint.manifest(), files, std::move(tensors),
                        with_optimizer);
    loader.match();
    loader.read(world.rank() == 0);
  });
  for (Weight* weight : weights) weight->master_changed();
}

}  // namespace

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
  const ManifestFile* record = manifest_.file(name);
  if (record == nullptr) {
    throw CheckpointError(fmt::format("the checkpoint has no file \"{}\"", name), path_.string());
  }
  VerifiedFile file(*files_, path_, manifest_, *record);
  return file.read_text(0, file.size_bytes());
}

void Checkpoint::load(const std::vector<Weight*>& weights, Collectives& world) const {
  load_all(*this, *files_, weights, {}, false, world);
}

void Checkpoint::load(const std::vector<Weight*>& weights,
                      const std::vector<OptimizerState>& optimizer, Collectives& world) const {
  load_all(*this, *files_, weights, optimizer, true, world);
}

}  // namespace switchyard
