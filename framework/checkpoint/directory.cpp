#include "checkpoint/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "base/errors.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"

namespace switchyard {

static constexpr std::string_view kPrefix = "step-", kWritingMark = ".writing-",
                                  kRemovingMark = ".removing-";

std::string step_name(int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::string writing_name(const std::string& name, const std::string& run_id) {
  return fmt::format("{}{}{}", name, kWritingMark, run_id);
}

std::string removing_name(const std::string& name, const std::string& run_id) {
  return fmt::format("{}{}{}", name, kRemovingMark, run_id);
}

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return {};
  const std::string_view digits = name.substr(kPrefix.size());
  int64_t step = -1;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), step);
  if (error != std::errc() || end != digits.end() || step < 0) return {};
  // One name a step: no missing or surplus zeros.
  if (step_name(step) != name) return {};
  return step;
}

bool is_unfinished(std::string_view name, std::string_view run_id) {
  if (!is_unfinished(name)) return false;
  const std::string_view mark = name.find(kWritingMark) != name.npos ? kWritingMark : kRemovingMark;
  return name.substr(name.find(mark) + mark.size()) == run_id;
}

bool is_unfinished(std::string_view name) {
  const size_t dot = name.find('.');
  if (dot == name.npos || !step_of(name.substr(0, dot))) return false;
  return name.substr(dot).starts_with(kWritingMark) || name.substr(dot).starts_with(kRemovingMark);
}

void sync_directory(const std::filesystem::path& path, FileSystem& files) {
  if (const int error = files.sync_directory(path)) {
    throw_file_error(error, "cannot write the directory to the disk", path);
  }
}

void make_directories(const std::filesystem::path& path, FileSystem& files) {
  int error = files.make_directory(path);
  if (error == ENOENT && path.has_parent_path() && path.parent_path() != path) {
    make_directories(path.parent_path(), files);
    error = files.make_directory(path);
  }
  if (error == EEXIST) return;
  if (error != 0) throw_file_error(error, "cannot make the directory", path);
  if (path.has_parent_path()) sync_directory(path.parent_path(), files);
}

void refuse_existing(const std::filesystem::path& path, FileSystem& files) {
  std::vector<std::string> names;
  const int error = files.list(path, names);
  if (error == ENOENT) return;
  if (error != 0 && error != ENOTDIR) throw_file_error(error, "cannot read the directory", path);
  throw CheckpointError("there is something of that name already", path.string(),
                        "give another name, or remove it first");
}

int remove_directory(const std::filesystem::path& path, FileSystem& files) {
  std::vector<std::string> names;
  int error = files.list(path, names);
  // Without its manifest what is left by a crash in between isn't taken for a checkpoint.
  std::stable_partition(names.begin(), names.end(),
                        [](const std::string& name) { return name == kManifestName; });
  for (const std::string& name : names) {
    const int failed = files.remove(path / name);
    if (error == 0) error = failed;
  }
  const int failed = files.remove(path);
  return error != 0 ? error : failed;
}

std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& directory,
                                              FileSystem& files) {
  std::vector<std::string> names;
  const int list_error = files.list(directory, names);
  if (list_error == ENOENT) return {};
  if (list_error != 0) throw_file_error(list_error, "cannot read the directory", directory);
  std::vector<CheckpointEntry> entries;
  for (const std::string& name : names) {
    const auto step = step_of(name);
    if (!step) continue;
    int file = -1;
    uint64_t size = 0;
    const int error = files.open(directory / name / kManifestName, Links::kRefuse, file, size);
    if (error == 0) files.close(file);
    // A manifest that is there but can't be read is for the one who opens the checkpoint to report.
    if (error != ENOENT && error != ENOTDIR) entries.push_back({*step, directory / name});
  }
  std::sort(entries.begin(), entries.end(),
            [](const CheckpointEntry& a, const CheckpointEntry& b) { return a.step < b.step; });
  return entries;
}

std::optional<CheckpointEntry> latest_checkpoint(const std::filesystem::path& directory,
                                                 FileSystem& files) {
  const auto entries = list_checkpoints(directory, files);
  if (entries.empty()) return {};
  return entries.back();
}

std::vector<CheckpointEntry> superseded_checkpoints(std::vector<CheckpointEntry> entries,
                                                    const SaveOptions& options) {
  if (options.keep <= 0) return {};
  std::erase_if(entries, [&](const CheckpointEntry& entry) {
    return std::ranges::find(options.damaged, entry.step) != options.damaged.end();
  });
  const auto keep = static_cast<size_t>(options.keep);
  entries.resize(entries.size() - std::min(keep, entries.size()));
  std::erase_if(entries, [&](const CheckpointEntry& entry) {
    return options.keep_every > 0 && entry.step % options.keep_every == 0;
  });
  return entries;
}

int remove_checkpoint(const std::filesystem::path& path, const std::string& run_id,
                      FileSystem& files) {
  // Renamed first: a crash in between leaves no half checkpoint under a whole one's name.
  const auto doomed = path.parent_path() / removing_name(path.filename().string(), run_id);
  const int error = files.rename(path, doomed);
  return error != 0 ? error : remove_directory(doomed, files);
}

void remove_older_checkpoints(const std::filesystem::path& directory, int64_t step,
                              const SaveOptions& options, FileSystem& files) {
  const auto warn = [](const std::filesystem::path& path, const std::string& problem) {
    log_warning("an older checkpoint could not be removed: {}: {}", path.string(), problem);
  };
  if (options.keep <= 0) return;
  std::vector<CheckpointEntry> entries;
  try {
    entries = list_checkpoints(directory, files);
  } catch (const Error& error) {  // the new checkpoint is whole: the run goes on
    warn(directory, error.summary());
    return;
  }
  std::erase_if(entries, [&](const CheckpointEntry& entry) { return entry.step > step; });
  for (const CheckpointEntry& old : superseded_checkpoints(std::move(entries), options)) {
    if (const int error = remove_checkpoint(old.path, options.run_id, files)) {
      warn(old.path, std::generic_category().message(error));
    }
  }
}

}  // namespace switchyard
