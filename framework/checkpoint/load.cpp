#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>
#include <unordered_map>

#include "base/errors.h"
#include "base/log.h"
#include "checkpoint/agree.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pieces.h"
#include "checkpoint/placement.h"
#include "checkpoint/tensors.h"
#include "checkpoint/verified_file.h"
#include "safetensors/element_stream.h"
#include "safetensors/elements.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

// Whether the text is as the pattern, in which '*' stands for any text.
bool matches(std::string_view pattern, std::string_view text) {
  size_t at = 0, from = 0;
  size_t star = pattern.npos, resume = 0;  // the last star and where its text may end
  while (at < text.size()) {
    if (from < pattern.size() && pattern[from] == '*') {
      star = from++;
      resume = at;
    } else if (from < pattern.size() && pattern[from] == text[at]) {
      ++from;
      ++at;
    } else if (star != pattern.npos) {
      from = star + 1;
      at = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', from) == pattern.npos;
}

// The first few of many names, and how many there are.
class Names {
 public:
  void add(const std::string& name) {
    if (count_ < kNamed) names_ += (count_ ? ", " : "") + name;
    ++count_;
  }
  int count() const { return count_; }
  // "2 tensors missing: a, b"
  std::string text(std::string_view what) const {
    return fmt::format("{} tensor{} {}: {}{}", count_, count_ == 1 ? "" : "s", what, names_,
                       count_ > kNamed ? ", ..." : "");
  }

 private:
  static constexpr int kNamed = 5;

  std::string names_;
  int count_ = 0;
};

// Joins those lists that have anything.
std::string text_of(std::initializer_list<std::pair<const Names*, std::string_view>> lists) {
  std::string text;
  for (const auto& [names, what] : lists) {
    if (names->count() > 0) text += (text.empty() ? "" : "; ") + names->text(what);
  }
  return text;
}

// Fills what this rank holds from one checkpoint.
class Loader {
 public:
  Loader(const Path& path, const Manifest& manifest, FileSystem& files,
         std::vector<GlobalTensor> tensors, bool with_optimizer, const LoadOptions& options)
      : path_(path),
        manifest_(manifest),
        files_(files),
        tensors_(std::move(tensors)),
        partial_(options.partial),
        pieces_(pieces_by_file(manifest)) {
    for (const ManifestTensor& tensor : manifest_.tensors) {
      if (tensor.part == TensorPart::kOptimizer && !with_optimizer) continue;
      stored_[tensor.name] = &tensor;
    }
  }

  // Compares all that the model has with all that is stored, experts of other ranks included, and
  // settles what is taken: the same on every rank.
  void match() {
    check_patterns();
    Names missing, unlike, extra;
    std::unordered_map<std::string_view, const GlobalTensor*> wanted;
    for (const GlobalTensor& tensor : tensors_) {
      wanted[tensor.name] = &tensor;
      const auto found = stored_.find(tensor.name);
      if (found == stored_.end()) {
        (may_differ(tensor.name) ? kept_ : missing).add(tensor.name);
      } else if (fits(*found->second, tensor)) {
        taken_[tensor.name] = &tensor;
      } else if (may_differ(tensor.name)) {
        kept_.add(tensor.name);
        left_.add(tensor.name);
      } else {
        unlike.add(describe(*found->second, tensor));
      }
    }
    for (const auto& [name, tensor] : stored_) {
      if (!wanted.contains(name)) (may_differ(name) ? left_ : extra).add(name);
    }
    const std::string problem = text_of({{&missing, "missing"},
                                         {&unlike, "of another shape or dtype"},
                                         {&extra, "that the model does not have"}});
    if (!problem.empty()) {
      throw CheckpointMisfit("the checkpoint does not fit the config: " + problem, path_.string(),
                             "its own config is config.yaml in that directory");
    }
    if (taken_.empty() && !tensors_.empty()) {
      throw CheckpointError("checkpoint.partial leaves nothing to take from the checkpoint",
                            path_.string(), "its own config is config.yaml in that directory");
    }
  }

  // Reads the files with anything that this rank holds. One rank looks at `everything` else too,
  // headers and files without tensors, so that between the ranks every byte is checked; without
  // the optimizer every byte but its files'.
  void read(bool everything) const {
    for (const auto& [name, pieces] : pieces_) {
      const auto is_of_interest = [&](const Piece& piece) {
        return everything ? stored_.contains(piece.tensor->name) : held(piece) != nullptr;
      };
      if (std::none_of(pieces.begin(), pieces.end(), is_of_interest)) continue;
      VerifiedFile file(files_, path_, manifest_, *manifest_.file(name));
      check_header(file, pieces);
      for (const Piece& piece : pieces) {
        if (const GlobalTensor* tensor = held(piece)) read_piece(file, piece, *tensor);
      }
    }
    if (everything) check_other_files();
  }

  // What `partial` has let pass; empty if nothing.
  std::string differences() const {
    return text_of(
        {{&kept_, "of the model left as initialised"}, {&left_, "of the checkpoint left out"}});
  }

 private:
  void check_patterns() const {
    for (const std::string& pattern : partial_) {
      const auto is_met = [&](const auto& name) { return matches(pattern, name); };
      if (std::any_of(tensors_.begin(), tensors_.end(),
                      [&](const GlobalTensor& tensor) { return is_met(tensor.name); }) ||
          std::any_of(stored_.begin(), stored_.end(),
                      [&](const auto& entry) { return is_met(entry.first); })) {
        continue;
      }
      throw ConfigError(fmt::format("checkpoint.partial: \"{}\" is the name of no tensor, neither "
                                    "of the model nor of the checkpoint",
                                    pattern),
                        path_.string(),
                        "`switchyard checkpoint show` lists the checkpoint's; '*' stands for any "
                        "text");
    }
  }

  bool may_differ(const std::string& name) const {
    return std::any_of(partial_.begin(), partial_.end(),
                       [&](const std::string& pattern) { return matches(pattern, name); });
  }

  static bool fits(const ManifestTensor& stored, const GlobalTensor& tensor) {
    const bool widens = tensor.part == TensorPart::kModel && tensor.dtype == DType::kFloat32 &&
                        fits_float32(stored.type);
    return stored.part == tensor.part && stored.shape == stored_shape(tensor.shape) &&
           (widens || stored.type == stored_type(tensor.dtype));
  }

  static std::string describe(const ManifestTensor& stored, const GlobalTensor& tensor) {
    return fmt::format("{} ({} [{}] stored, {} {} wanted)", tensor.name, name_of(stored.type),
                       fmt::join(stored.shape, ", "), name_of(stored_type(tensor.dtype)),
                       tensor.shape.text());
  }

  // What this rank fills from the piece; nullptr if nothing.
  const GlobalTensor* held(const Piece& piece) const {
    const auto found = taken_.find(piece.tensor->name);
    return found != taken_.end() && found->second->held ? found->second : nullptr;
  }

  void check_other_files() const {
    for (const ManifestFile& record : manifest_.files) {
      if (pieces_.contains(record.name)) continue;
      VerifiedFile file(files_, path_, manifest_, record);
      file.read(0, file.size_bytes(), [](const std::byte*, size_t) {});
    }
  }

  static void read_piece(VerifiedFile& file, const Piece& piece, const GlobalTensor& tensor) {
    const TensorSlice& slice = piece.place();
    Placement placement(tensor.runs, tensor.value, tensor.weight->memory(),
                        static_cast<int64_t>(slice.first_element));
    if (piece.tensor->type == stored_type(tensor.dtype)) {
      file.read(slice.begin, slice.end, [&](const std::byte* data, size_t size_bytes) {
        placement.put({data, size_bytes});
      });
      return;
    }
    ElementStream widened(piece.tensor->type, stored_type(tensor.dtype), tensor.name,
                          [&](std::span<const std::byte> bytes) { placement.put(bytes); });
    file.read(slice.begin, slice.end, [&](const std::byte* data, size_t size_bytes) {
      widened.add({data, size_bytes});
    });
    widened.finish();
  }

  const Path& path_;
  const Manifest& manifest_;
  FileSystem& files_;
  const std::vector<GlobalTensor> tensors_;
  const std::vector<std::string>& partial_;
  const PiecesByFile pieces_;
  std::map<std::string, const ManifestTensor*> stored_;  // by name, of the parts that are loaded
  std::unordered_map<std::string_view, const GlobalTensor*> taken_;
  Names kept_, left_;
};

void load_all(const Checkpoint& checkpoint, FileSystem& files, const std::vector<Weight*>& weights,
              const std::vector<OptimizerState>& optimizer, bool with_optimizer, Collectives& world,
              const LoadOptions& options) {
  std::vector<GlobalTensor> tensors =
      tensors_of_job({weights.begin(), weights.end()}, optimizer, world);
  std::string differences;
  run_and_agree(world, [&] {
    Loader loader(checkpoint.path(), checkpoint.manifest(), files, std::move(tensors),
                  with_optimizer, options);
    loader.match();
    loader.read(world.rank() == 0);
    differences = loader.differences();
  });
  for (Weight* weight : weights) weight->master_changed();
  if (!differences.empty()) log_info("{}: {}", checkpoint.path().string(), differences);
}

}  // namespace

void Checkpoint::load(const std::vector<Weight*>& weights, Collectives& world,
                      const LoadOptions& options) const {
  load_all(*this, *files_, weights, {}, false, world, options);
}

void Checkpoint::load(const std::vector<Weight*>& weights,
                      const std::vector<OptimizerState>& optimizer, Collectives& world) const {
  load_all(*this, *files_, weights, optimizer, true, world, {});
}

}  // namespace switchyard
