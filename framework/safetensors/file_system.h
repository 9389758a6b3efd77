// The system calls that checkpoints are written and read with, behind one interface, so that tests
// can record them, fail the n-th or stop the world between two. FileOutput and FileInput stand on
// it and check every return code; nothing under safetensors/ or checkpoint/ touches files another
// way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace switchyard {

enum class Links : uint8_t { kFollow, kRefuse };

// Every call returns 0 or the errno of its failure. Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  static FileSystem& real();

  // Creates a file that doesn't exist yet (O_EXCL), for writing.
  virtual int create(const std::filesystem::path& path, int& file) = 0;
  // Appends at most `size_bytes`; `written` may be less.
  virtual int write(int file, const void* data, size_t size_bytes, size_t& written) = 0;
  virtual int sync(int file) = 0;
  // Bytes that have been written may start on their way to the disk, so that sync() finds little
  // left to do. A hint: it promises nothing, and its failures are sync()'s to report.
  virtual void start_sync(int file, uint64_t offset, uint64_t size_bytes) noexcept = 0;
  virtual int close(int file) = 0;

  // Opens a regular file for reading. Links::kRefuse: ELOOP if the last component is a link.
  virtual int open(const std::filesystem::path& path, Links links, int& file,
                   uint64_t& size_bytes) = 0;
  // `read` is less than asked for only at the end of the file or after an interruption.
  virtual int read(int file, uint64_t offset, void* data, size_t size_bytes, size_t& read) = 0;
  // Maps the whole file; it may be closed then.
  virtual int map(int file, uint64_t size_bytes, const std::byte*& data) = 0;
  virtual void unmap(const std::byte* data, uint64_t size_bytes) noexcept = 0;

  virtual int make_directory(const std::filesystem::path& path) = 0;
  virtual int sync_directory(const std::filesystem::path& path) = 0;
  // Names in the directory, sorted, without "." and "..".
  virtual int list(const std::filesystem::path& path, std::vector<std::string>& names) = 0;
  virtual int rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  // Swaps two names in one step; EINVAL where the file system cannot.
  virtual int exchange(const std::filesystem::path& a, const std::filesystem::path& b) = 0;
  // A file, a link or an empty directory.
  virtual int remove(const std::filesystem::path& path) = 0;
};

// Throws SpaceError for a full disk or quota, CheckpointError otherwise, both naming the path.
//   action  "cannot write the file"
[[noreturn]] void throw_file_error(int error, std::string_view action,
                                   const std::filesystem::path& path);

// Hashes are kept of every piece of this size, the last may be shorter.
inline constexpr uint64_t kChunkBytes = uint64_t{1} << 20;
inline uint64_t chunks_of(uint64_t size_bytes) {
  return size_bytes / kChunkBytes + (size_bytes % kChunkBytes != 0);
}

// A file being written for the first time; it counts as written after finish() only.
// Every function throws as throw_file_error says.
class FileOutput {
 public:
  FileOutput(FileSystem& files, std::filesystem::path path);
  ~FileOutput();  // closes without finishing: the file stays as it is
  FileOutput(const FileOutput&) = delete;
  FileOutput& operator=(const FileOutput&) = delete;

  // Appends through a buffer of one chunk.
  void write(const void* data, size_t size_bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Writes the rest, syncs to the disk and closes.
  void finish();

  const std::filesystem::path& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // XXH3-128 of every chunk, complete after finish().
  const std::vector<Digest>& chunk_digests() const { return chunk_digests_; }

 private:
  void put_chunk(const std::byte* data, size_t size_bytes);

  FileSystem& files_;
  std::filesystem::path path_;
  int file_ = -1;
  uint64_t size_bytes_ = 0;
  uint64_t written_ = 0, under_way_ = 0;  // bytes given to the file; of these, to the disk
  std::vector<std::byte> buffer_;
  std::vector<Digest> chunk_digests_;
};

// A file being read by position. Every function throws as throw_file_error says.
class FileInput {
 public:
  FileInput(FileSystem& files, std::filesystem::path path, Links links);
  ~FileInput();
  FileInput(const FileInput&) = delete;
  FileInput& operator=(const FileInput&) = delete;

  const std::filesystem::path& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Reads exactly that much; a file that ends before is a CheckpointError.
  void read(uint64_t offset, void* data, size_t size_bytes);

 private:
  FileSystem& files_;
  std::filesystem::path path_;
  int file_ = -1;
  uint64_t size_bytes_ = 0;
};

// A whole file in memory through a map; move-only. The caller distrusts what lies in it.
class FileMapping {
 public:
  FileMapping(FileSystem& files, const std::filesystem::path& path, Links links);
  ~FileMapping();
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&&) = delete;

  const std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  FileSystem* files_;
  const std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

}  // namespace switchyard
