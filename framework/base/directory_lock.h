// Keeps other processes out of a directory for as long as the object lives. The kernel lets go of
// the lock when the process ends, however it ends, so that none is ever left behind.
#pragma once

#include <filesystem>
#include <optional>

namespace switchyard {

class DirectoryLock {
 public:
  // Empty when another process (or another object of this one) holds the directory's lock.
  // Throws InputError when the directory can't be opened.
  static std::optional<DirectoryLock> try_acquire(const std::filesystem::path& directory);

  ~DirectoryLock();
  DirectoryLock(DirectoryLock&& other) noexcept;
  DirectoryLock& operator=(DirectoryLock&&) = delete;

 private:
  explicit DirectoryLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
};

}  // namespace switchyard
