// What lies in a run's folder of checkpoints, finished or not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace switchyard {

struct UnfinishedEntry {
  std::string name;  // "step-00001200.writing-quickstart"
  uint64_t bytes = 0;
  bool lacks_manifest = false;  // "step-00001200", of which the manifest has gone
};

// Those being written or removed, or left behind so, and those without a manifest; none if the
// directory doesn't exist. Throws CheckpointError when it can't be read.
std::vector<UnfinishedEntry> list_unfinished(const std::filesystem::path& directory,
                                             FileSystem& files = FileSystem::real());

// Bytes of all files that are directly in the directory; what can't be read counts as nothing.
uint64_t directory_bytes(const std::filesystem::path& path, FileSystem& files = FileSystem::real());

}  // namespace switchyard
