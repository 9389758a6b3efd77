#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "base/timer.h"
#include "checkpoint/compare.h"
#include "checkpoint/directory.h"
#include "checkpoint/listing.h"
#include "checkpoint/verify.h"
#include "cli/training_run.h"
#include "cli/verbs.h"

namespace switchyard {

namespace {

using Path = std::filesystem::path;

constexpr const char* kGroup = "checkpoint";
constexpr const char* kSummary = "List, show, verify, compare and remove checkpoints";
constexpr const char* kRunMeaning = "A run's folder, such as runs/quickstart, or its checkpoints/";
constexpr const char* kOneMeaning = "A checkpoint, or a run's folder: its latest";

std::string size_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto size = static_cast<double>(bytes);
  size_t unit = 0;
  for (; size >= 1000.0 && unit + 1 < std::size(kUnits); ++unit) size /= 1000.0;
  return fmt::format("{:.{}f} {}", size, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string layout_text(const CheckpointLayout& layout) {
  return fmt::format("{}x{}{}", layout.ranks, layout.expert_group_size,
                     layout.sharded_optimizer ? ", optimizer sharded" : "");
}

// Where a run's checkpoints are.
Path folder_of(const Path& path) {
  refuse_file(path);
  if (std::filesystem::exists(path / kManifestName)) {
    throw CheckpointError("it is a checkpoint, not the folder of a run", path.string(),
                          "`switchyard checkpoint show` says what it holds");
  }
  const Path below = path / "checkpoints";
  return std::filesystem::is_directory(below) ? below : path;
}

void list(const Path& path) {
  const Path folder = folder_of(path);
  const std::vector<CheckpointEntry> entries = list_checkpoints(folder);
  const std::vector<UnfinishedEntry> unfinished = list_unfinished(folder);
  if (entries.empty() && unfinished.empty()) {
    throw CheckpointError("there is no checkpoint", path.string(),
                          "train the run first, or name the folder of a run");
  }
  fmt::print("{}\n", folder.string());
  for (const CheckpointEntry& entry : entries) {
    const std::string name = entry.path.filename().string();
    const std::string size = size_text(directory_bytes(entry.path));
    try {
      const Manifest manifest = Checkpoint::open(entry.path).manifest();
      fmt::print("  {}  {:>9}  step {}, {} target tokens, layout {}\n", name, size, manifest.step,
                 manifest.tokens_seen, layout_text(manifest.layout));
    } catch (const CheckpointError& error) {
      fmt::print("  {}  {:>9}  damaged: {}\n", name, size, error.summary());
    }
  }
  for (const UnfinishedEntry& entry : unfinished) {
    fmt::print("  {}  {:>9}  {}\n", entry.name, size_text(entry.bytes),
               entry.lacks_manifest ? "damaged: there is no manifest.pb"
                                    : "unfinished: a process is at it, or was killed");
  }
}

void show(const Path& path) {
  const Checkpoint checkpoint = Checkpoint::open(checkpoint_at(path));
  const Manifest& manifest = checkpoint.manifest();
  fmt::print("checkpoint {}\n", checkpoint.path().string());
  fmt::print("step {}, {} target tokens, next sample {}, seed {}\n", manifest.step,
             manifest.tokens_seen, manifest.sampler_position, manifest.seed);
  fmt::print("written by Switchyard {} in layout {}\n", manifest.program_version,
             layout_text(manifest.layout));
  fmt::print("config {}\n", manifest.config_hash.hex());
  const bool has_data = manifest.dataset_hash != Digest{};
  fmt::print("dataset {}\n", has_data ? manifest.dataset_hash.hex() : "none");
  size_t width = 0;
  for (const ManifestFile& file : manifest.files) width = std::max(width, file.name.size());
  fmt::print("files:\n");
  for (const ManifestFile& file : manifest.files) {
    fmt::print("  {:<{}}  {:>9}\n", file.name, width, size_text(file.size_bytes));
  }
  size_t shape_width = 0;
  width = 0;
  std::vector<std::string> shapes;
  for (const ManifestTensor& tensor : manifest.tensors) {
    shapes.push_back(fmt::format("[{}]", fmt::join(tensor.shape, ", ")));
    width = std::max(width, tensor.name.size());
    shape_width = std::max(shape_width, shapes.back().size());
  }
  fmt::print("tensors:\n");
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const ManifestTensor& tensor = manifest.tensors[i];
    std::string files;
    for (const TensorSlice& slice : tensor.slices) {
      files += (files.empty() ? "" : ", ") + slice.file;
    }
    fmt::print("  {:<{}}  {:<4}  {:<{}}  {}\n", tensor.name, width, name_of(tensor.type), shapes[i],
               shape_width, files);
  }
}

// Prints what there is to say of one; whether it is whole.
bool verify(const Path& path, ThreadPool& threads) {
  const Timer timer;
  try {
    const Verification found = verify_checkpoint(Checkpoint::open(path), threads);
    const double seconds = timer.seconds();
    fmt::print("{}: {} files, {}, ", path.string(), found.files, size_text(found.bytes));
    if (found.damage.empty()) {
      fmt::print("whole; {:.2f} s, {:.2f} GB/s\n", seconds,
                 static_cast<double>(found.bytes) / 1e9 / seconds);
    } else {
      fmt::print("{} damaged\n", found.damage.size());
    }
    for (const Damage& damage : found.damage) fmt::print("  {}: {}\n", damage.file, damage.what);
    for (const std::string& name : found.strangers) {
      fmt::print("  {}: not of the checkpoint, left alone\n", name);
    }
    return found.damage.empty();
  } catch (const CheckpointError& error) {
    fmt::print("{}: {}\n", path.string(), error.summary());
    return false;
  }
}

void verify_all(const Path& path) {
  std::vector<Path> paths;
  if (!std::filesystem::exists(path / kManifestName)) {
    const Path folder = folder_of(path);
    for (const CheckpointEntry& entry : list_checkpoints(folder)) paths.push_back(entry.path);
    for (const UnfinishedEntry& entry : list_unfinished(folder)) {
      if (entry.lacks_manifest) paths.push_back(folder / entry.name);
    }
  }
  if (paths.empty()) paths.push_back(checkpoint_at(path));
  ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const auto damaged = std::count_if(paths.begin(), paths.end(),
                                     [&](const Path& one) { return !verify(one, threads); });
  std::fflush(stdout);  // before the error's lines on the other stream
  if (damaged == 0) return;
  throw CheckpointError(
      paths.size() == 1 ? "the checkpoint is damaged"
                        : fmt::format("{} of {} checkpoints are damaged", damaged, paths.size()),
      path.string(), "use another one, or another copy");
}

void print(const TensorDifference& found) {
  std::string types;
  if (found.type_a != found.type_b) {
    types = fmt::format(" ({} and {})", name_of(found.type_a), name_of(found.type_b));
  }
  fmt::print("  {}{}: {} of {} elements, by at most {:.6g}; first at [{}]: {:.9g} and {:.9g}\n",
             found.name, types, found.differing, found.elements, found.largest,
             fmt::join(found.first, ", "), found.first_a, found.first_b);
}

ExitCode diff(const Path& path_a, const Path& path_b) {
  const Checkpoint a = Checkpoint::open(checkpoint_at(path_a));
  const Checkpoint b = Checkpoint::open(checkpoint_at(path_b));
  fmt::print("A {}: step {}\nB {}: step {}\n", a.path().string(), a.manifest().step,
             b.path().string(), b.manifest().step);
  const CheckpointDifference found = compare_checkpoints(a, b);
  for (const std::string& name : found.only_a) fmt::print("  only in A: {}\n", name);
  for (const std::string& name : found.only_b) fmt::print("  only in B: {}\n", name);
  for (const std::string& tensor : found.unlike) fmt::print("  other shape: {}\n", tensor);
  for (const TensorDifference& tensor : found.differing) print(tensor);
  fmt::print("{} tensors equal", found.equal);
  if (found.retyped > 0) fmt::print(" ({} of them in another type)", found.retyped);
  const size_t other = found.only_a.size() + found.only_b.size() + found.unlike.size();
  fmt::print(", {} differ, {} on one side only or of another shape\n", found.differing.size(),
             other);
  return found.none() ? ExitCode::kDone : ExitCode::kLayoutsDiffer;
}

struct PruneArguments {
  std::string directory, keep, keep_every;
  bool dry_run = false;
};

void prune(const PruneArguments& arguments) {
  const int64_t keep = arguments.keep.empty() ? 0 : parse_count("--keep", arguments.keep);
  if (keep == 0) {
    throw ConfigError("--keep says how many checkpoints stay; none is no choice", "",
                      "switchyard checkpoint prune RUN_DIR --keep 2");
  }
  const int64_t keep_every =
      arguments.keep_every.empty() ? 0 : parse_count("--keep-every", arguments.keep_every);
  const Path folder = folder_of(arguments.directory);
  const std::vector<CheckpointEntry> entries = list_checkpoints(folder);
  if (entries.empty()) {
    throw CheckpointError("there is no checkpoint", folder.string(), "name the folder of a run");
  }
  const std::vector<CheckpointEntry> old =
      superseded_checkpoints(entries, {.keep = keep, .keep_every = keep_every});
  uint64_t bytes = 0;
  for (const CheckpointEntry& entry : old) {
    const uint64_t size = directory_bytes(entry.path);
    bytes += size;
    if (!arguments.dry_run) {
      const int error = remove_checkpoint(entry.path, "prune", FileSystem::real());
      if (error != 0) throw_file_error(error, "cannot remove the checkpoint", entry.path);
    }
    fmt::print("{} {} ({})\n", arguments.dry_run ? "would remove" : "removed", entry.path.string(),
               size_text(size));
  }
  fmt::print("{} {}, {}; {} stay\n", old.size(), old.size() == 1 ? "checkpoint" : "checkpoints",
             size_text(bytes), entries.size() - old.size());
}

void add_on_directory(CommandLine& line, const char* name, const char* summary, const char* meaning,
                      void (*action)(const Path&)) {
  auto directory = std::make_shared<std::string>();
  line.verb(kGroup, kSummary, name, summary)
      .positional("DIR", *directory, meaning)
      .example(fmt::format("switchyard checkpoint {} runs/quickstart", name))
      .runs([directory, action] { action(*directory); });
}

}  // namespace

void add_checkpoint(CommandLine& line) {
  add_on_directory(line, "list", "Each checkpoint of a run in a line, unfinished ones too",
                   kRunMeaning, list);
  add_on_directory(line, "show", "Position, files and tensors of a checkpoint", kOneMeaning, show);
  add_on_directory(line, "verify",
                   "Read every byte and name what is damaged (exit code 4), of all checkpoints of "
                   "a run or of one",
                   "A run's folder, or one checkpoint", verify_all);
  struct Pair {
    std::string a, b;
  };
  auto pair = std::make_shared<Pair>();
  line.verb(kGroup, kSummary, "diff",
            "Compare the tensors of two checkpoints; exit code 0: equal, 9: they differ")
      .positional("A", pair->a, kOneMeaning)
      .positional("B", pair->b, "As A")
      .example("switchyard checkpoint diff runs/a runs/b/checkpoints/step-00001000")
      .runs([pair] { return diff(pair->a, pair->b); });
  auto arguments = std::make_shared<PruneArguments>();
  line.verb(kGroup, kSummary, "prune", "Remove older checkpoints of a run")
      .positional("DIR", arguments->directory, kRunMeaning)
      .option("--keep", arguments->keep, "N", "The newest N stay")
      .option("--keep-every", arguments->keep_every, "M",
              "So do those whose step is a multiple of M")
      .flag("--dry-run", arguments->dry_run, "Only say what would go")
      .example("switchyard checkpoint prune runs/quickstart --keep 2 --keep-every 1000")
      .runs([arguments] { prune(*arguments); });
}

}  // namespace switchyard
