// Names of checkpoint directories, finished ones and those being written or removed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "safetensors/file_system.h"

namespace switchyard {

struct CheckpointEntry;
struct SaveOptions;

inline constexpr std::string_view kManifestName = "manifest.pb";

std::string step_name(int64_t step);  // "step-00001200"
// "step-00001200.writing-a" of "step-00001200".
std::string writing_name(const std::string& name, const std::string& run_id);
std::string removing_name(const std::string& name, const std::string& run_id);
// Empty for any other name.
std::optional<int64_t> step_of(std::string_view name);
// Whether it is the name of a directory being written or removed, of this run or of any.
bool is_unfinished(std::string_view name, std::string_view run_id);
bool is_unfinished(std::string_view name);

// Makes the directory and those above it, synced; fine if it is there.
void make_directories(const std::filesystem::path& path, FileSystem& files);
// Throws CheckpointError if there is anything at the path, an empty directory too.
void refuse_existing(const std::filesystem::path& path, FileSystem& files);
// Removes a directory of files, the manifest first. Returns 0 or the errno of the first failure.
int remove_directory(const std::filesystem::path& path, FileSystem& files);
// Throws as throw_file_error.
void sync_directory(const std::filesystem::path& path, FileSystem& files);

// Those of `entries`, sorted by step, that go by the options' keep, keep_every and damaged.
std::vector<CheckpointEntry> superseded_checkpoints(std::vector<CheckpointEntry> entries,
                                                    const SaveOptions& options);
// Removes a whole checkpoint so that no half of it is ever taken for one. Returns 0 or the errno of
// the first failure.
int remove_checkpoint(const std::filesystem::path& path, const std::string& run_id,
                      FileSystem& files);

// Keeps the newest of those up to `step`, as SaveOptions say. Warns of what fails.
void remove_older_checkpoints(const std::filesystem::path& directory, int64_t step,
                              const SaveOptions& options, FileSystem& files);

}  // namespace switchyard
