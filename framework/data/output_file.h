// A file being written for the first time: every return code is checked, a full disk is a
// SpaceError, and nothing counts as written before finish().
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace switchyard {

class OutputFile {
 public:
  // Creates the file; one that exists is an InputError. Throws SpaceError when the disk is full.
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();  // closes without finishing: the file stays as it is
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Appends through a buffer.
  void write(const void* data, size_t size_bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }

  // Overwrites what already lies at `offset`, at most what has been written so far.
  void write_at(int64_t offset, const void* data, size_t size_bytes);

  // Flushes, syncs to the disk and closes.
  void finish();

  int64_t size_bytes() const { return size_bytes_; }

 private:
  void flush();
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path path_;
  int file_ = -1;
  int64_t size_bytes_ = 0;
  std::vector<char> buffer_;
};

// Makes renames and new files inside the directory survive a power cut.
void sync_directory(const std::filesystem::path& path);

}  // namespace switchyard
