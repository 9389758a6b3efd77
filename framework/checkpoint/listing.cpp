#include "checkpoint/listing.h"

#include <algorithm>
#include <cerrno>

#include "checkpoint/directory.h"

namespace switchyard {

static bool lacks_manifest(const std::filesystem::path& path, FileSystem& files) {
  std::vector<std::string> names;
  return files.list(path, names) == 0 &&
         !std::binary_search(names.begin(), names.end(), kManifestName);
}

std::vector<UnfinishedEntry> list_unfinished(const std::filesystem::path& directory,
                                             FileSystem& files) {
  std::vector<std::string> names;
  const int error = files.list(directory, names);
  if (error == ENOENT) return {};
  if (error != 0) throw_file_error(error, "cannot read the directory", directory);
  std::vector<UnfinishedEntry> unfinished;
  for (const std::string& name : names) {
    const bool lacks = step_of(name) && lacks_manifest(directory / name, files);
    if (!lacks && !is_unfinished(name)) continue;
    unfinished.push_back({name, directory_bytes(directory / name, files), lacks});
  }
  return unfinished;
}

uint64_t directory_bytes(const std::filesystem::path& path, FileSystem& files) {
  std::vector<std::string> names;
  if (files.list(path, names) != 0) return 0;
  uint64_t bytes = 0;
  for (const std::string& name : names) {
    int file = -1;
    uint64_t size = 0;
    if (files.open(path / name, Links::kRefuse, file, size) != 0) continue;
    files.close(file);
    bytes += size;
  }
  return bytes;
}

}  // namespace switchyard
