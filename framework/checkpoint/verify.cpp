#include "checkpoint/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/errors.h"
#include "checkpoint/directory.h"
#include "checkpoint/pieces.h"
#include "checkpoint/verified_file.h"
#include "safetensors/safetensors.h"

namespace switchyard {
namespace {

class Verifier {
 public:
  explicit Verifier(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint), manifest_(checkpoint.manifest()) {
    for (const ManifestFile& record : manifest_.files) {
      files_.push_back({.record = &record, .first_chunk = chunks_});
      files_.back().chunks.resize(record.chunks.size());
      chunks_ += record.chunks.size();
    }
  }

  Verification run(ThreadPool& threads) {
    for (File& file : files_) look(file, [&] { open(file); });
    // A run of chunks on each thread, so that a disk is read in order.
    threads.parallel_for(static_cast<int64_t>(chunks_), 1, [&](int64_t begin, int64_t end) {
      read(static_cast<uint64_t>(begin), static_cast<uint64_t>(end));
    });
    Verification found;
    const PiecesByFile pieces = pieces_by_file(manifest_);
    for (File& file : files_) {
      if (file.problem.empty()) look(file, [&] { judge(file, pieces); });
      ++found.files;
      if (file.was_read) found.bytes += file.record->size_bytes;
      if (!file.problem.empty()) found.damage.push_back({file.record->name, file.problem});
    }
    found.strangers = strangers();
    return found;
  }

 private:
  enum class State : uint8_t { kGood, kDamaged, kUnreadable };
  struct File {
    const ManifestFile* record = nullptr;
    uint64_t first_chunk = 0;        // counted over all files
    std::vector<State> chunks = {};  // each is written by one thread
    bool was_read = false;
    std::string problem = {};
  };

  // What goes wrong is the file's problem.
  template <typename Action>
  static void look(File& file, Action&& action) {
    try {
      action();
    } catch (const Error& error) {
      file.problem = error.summary();
    }
  }

  VerifiedFile open(const File& file) const {
    return VerifiedFile(checkpoint_.files(), checkpoint_.path(), manifest_, *file.record);
  }

  // Chunks begin..end-1 of all. Why one can't be read is found by judging.
  void read(uint64_t begin, uint64_t end) {
    auto file = std::upper_bound(
        files_.begin(), files_.end(), begin,
        [](uint64_t chunk, const File& other) { return chunk < other.first_chunk; });
    --file;
    for (; begin < end; ++file) {
      const uint64_t first = begin - file->first_chunk;
      const uint64_t count = std::min(end - begin, file->record->chunks.size() - first);
      if (file->problem.empty()) read(*file, first, count);
      begin += count;
    }
  }

  void read(File& file, uint64_t first, uint64_t count) const {
    std::optional<VerifiedFile> input;
    for (uint64_t chunk = first; chunk < first + count; ++chunk) {
      try {
        if (!input) input.emplace(checkpoint_.files(), checkpoint_.path(), manifest_, *file.record);
        file.chunks[chunk] = input->check_chunk(chunk) ? State::kGood : State::kDamaged;
      } catch (const Error&) {
        file.chunks[chunk] = State::kUnreadable;
      }
    }
  }

  // Chunks beside each other make one line.
  void judge(File& file, const PiecesByFile& pieces) const {
    file.was_read = true;
    VerifiedFile input = open(file);
    std::string problem;
    for (uint64_t chunk = 0; chunk < file.chunks.size(); ++chunk) {
      if (file.chunks[chunk] == State::kGood) continue;
      const uint64_t first = chunk;
      for (; chunk < file.chunks.size() && file.chunks[chunk] != State::kGood; ++chunk) {
        if (file.chunks[chunk] == State::kUnreadable) input.check_chunk(chunk);  // throws
      }
      const uint64_t end = std::min(chunk * kChunkBytes, file.record->size_bytes);
      problem += (problem.empty() ? "" : "; ") + input.damage(first * kChunkBytes, end);
    }
    if (!problem.empty()) {
      file.problem = problem;
      return;
    }
    if (const auto found = pieces.find(file.record->name); found != pieces.end()) {
      check_header(input, found->second);
    } else if (file.record->name == "config.yaml") {
      const std::string text = input.read_text(0, input.size_bytes());
      if (digest_of(text) != manifest_.config_hash) refuse("it is another config than the run's");
    } else if (file.record->name == "model.safetensors.index.json") {
      check_index(input);
    }
  }

  void check_index(VerifiedFile& input) const {
    const SafetensorsIndex index = parse_index(input.read_text(0, input.size_bytes()), "");
    size_t tensors = 0;
    for (const ManifestTensor& tensor : manifest_.tensors) {
      if (tensor.part != TensorPart::kModel) continue;
      ++tensors;
      const auto found = index.file_of.find(tensor.name);
      if (found == index.file_of.end() || found->second != tensor.slices[0].file) {
        refuse(fmt::format("it has tensor \"{}\" in another file than the manifest", tensor.name));
      }
    }
    if (index.file_of.size() != tensors) refuse("it has tensors that the manifest has not");
  }

  [[noreturn]] static void refuse(const std::string& problem) { throw CheckpointError(problem); }

  std::vector<std::string> strangers() const {
    std::vector<std::string> names;
    if (const int error = checkpoint_.files().list(checkpoint_.path(), names)) {
      throw_file_error(error, "cannot read the directory", checkpoint_.path());
    }
    std::erase_if(names, [&](const std::string& name) {
      return name == kManifestName || manifest_.file(name) != nullptr;
    });
    return names;
  }

  const Checkpoint& checkpoint_;
  const Manifest& manifest_;
  std::vector<File> files_;
  uint64_t chunks_ = 0;
};

}  // namespace

Verification verify_checkpoint(const Checkpoint& checkpoint, ThreadPool& threads) {
  return Verifier(checkpoint).run(threads);
}

}  // namespace switchyard
