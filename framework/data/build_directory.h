// A directory that is made beside its place and moved there when it is whole.
#pragma once

#include <filesystem>
#include <optional>

#include "base/directory_lock.h"

namespace switchyard {

class BuildDirectory {
 public:
  // Makes `<target>.building`, empty; remains of an interrupted build are cleared away. Throws
  // ConfigError when `target` holds something other than a dataset, InputError when another process
  // is building there or the directory can't be made.
  explicit BuildDirectory(std::filesystem::path target);
  ~BuildDirectory();  // removes the directory unless committed
  BuildDirectory(const BuildDirectory&) = delete;
  BuildDirectory& operator=(const BuildDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Puts the directory in the target's place, replacing a dataset there.
  void commit();

 private:
  std::filesystem::path target_, path_;
  std::optional<DirectoryLock> lock_;
};

}  // namespace switchyard
