#include "safetensors/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

// Goes to the disk at once: enough for its speed, little beside what is written after it.
constexpr uint64_t kUnderWayBytes = 8 * kChunkBytes;

int error_of(long result) { return result < 0 ? errno : 0; }

class RealFileSystem : public FileSystem {
 public:
  int create(const Path& path, int& file) override {
    file = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
    return error_of(file);
  }

  int write(int file, const void* data, size_t size_bytes, size_t& written) override {
    const ssize_t result = ::write(file, data, size_bytes);
    written = result < 0 ? 0 : static_cast<size_t>(result);
    return error_of(result);
  }

  int sync(int file) override { return error_of(::fsync(file)); }
  void start_sync(int file, uint64_t offset, uint64_t size_bytes) noexcept override {
    ::sync_file_range(file, static_cast<off64_t>(offset), static_cast<off64_t>(size_bytes),
                      SYNC_FILE_RANGE_WRITE);
  }
  int close(int file) override { return error_of(::close(file)); }

  int open(const Path& path, Links links, int& file, uint64_t& size_bytes) override {
    // Not blocking: a named pipe must not hang the program before fstat can refuse it.
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    const int opened = ::open(path.c_str(), links == Links::kRefuse ? flags | O_NOFOLLOW : flags);
    if (opened < 0) return errno;
    struct stat status {};
    int error = error_of(::fstat(opened, &status));
    if (error == 0 && !S_ISREG(status.st_mode)) error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    if (error != 0) {
      ::close(opened);
      return error;
    }
    file = opened;
    size_bytes = static_cast<uint64_t>(status.st_size);
    return 0;
  }

  int read(int file, uint64_t offset, void* data, size_t size_bytes, size_t& read) override {
    const ssize_t result = ::pread(file, data, size_bytes, static_cast<off_t>(offset));
    read = result < 0 ? 0 : static_cast<size_t>(result);
    return error_of(result);
  }

  int map(int file, uint64_t size_bytes, const std::byte*& data) override {
    data = nullptr;
    if (size_bytes == 0) return 0;
    void* start = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, file, 0);
    if (start == MAP_FAILED) return errno;
    data = static_cast<const std::byte*>(start);
    return 0;
  }

  void unmap(const std::byte* data, uint64_t size_bytes) noexcept override {
    if (data != nullptr) ::munmap(const_cast<std::byte*>(data), size_bytes);
  }

  int make_directory(const Path& path) override { return error_of(::mkdir(path.c_str(), 0755)); }

  int sync_directory(const Path& path) override {
    const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return errno;
    const int error = error_of(::fsync(directory));
    const int close_error = error_of(::close(directory));
    return error != 0 ? error : close_error;
  }

  int list(const Path& path, std::vector<std::string>& names) override {
    names.clear();
    DIR* directory = ::opendir(path.c_str());
    if (directory == nullptr) return errno;
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    const int error = errno;
    ::closedir(directory);
    std::sort(names.begin(), names.end());
    return error;
  }

  int rename(const Path& from, const Path& to) override {
    return error_of(std::rename(from.c_str(), to.c_str()));
  }

  int exchange(const Path& a, const Path& b) override {
    return error_of(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
  }

  int remove(const Path& path) override { return error_of(std::remove(path.c_str())); }
};

}  // namespace

FileSystem& FileSystem::real() {
  static RealFileSystem files;
  return files;
}

void throw_file_error(int error, std::string_view action, const Path& path) {
  const std::string what = fmt::format("{}: {}", action, std::generic_category().message(error));
  if (error == ELOOP) {
    throw CheckpointError(fmt::format("{}: it is a link, and links are not followed", action),
                          path.string(), "put the file itself in its place");
  }
  if (error == ENOSPC || error == EDQUOT) {
    throw SpaceError(what, path.string(), "free some space; what was saved before is untouched");
  }
  throw CheckpointError(what, path.string());
}

FileOutput::FileOutput(FileSystem& files, Path path) : files_(files), path_(std::move(path)) {
  int file = -1;
  if (const int error = files_.create(path_, file)) {
    throw_file_error(error, "cannot create the file", path_);
  }
  file_ = file;
}

FileOutput::~FileOutput() {
  if (file_ >= 0) files_.close(file_);
}

void FileOutput::put_chunk(const std::byte* data, size_t size_bytes) {
  chunk_digests_.push_back(digest_of(data, size_bytes));
  while (size_bytes > 0) {
    size_t written = 0;
    const int error = files_.write(file_, data, size_bytes, written);
    if (error == EINTR) continue;
    if (error != 0) throw_file_error(error, "cannot write the file", path_);
    if (written == 0) throw_file_error(EIO, "cannot write the file", path_);
    data += written;
    size_bytes -= written;
    written_ += written;
  }
  if (written_ - under_way_ < kUnderWayBytes) return;
  files_.start_sync(file_, under_way_, written_ - under_way_);
  under_way_ = written_;
}

void FileOutput::write(const void* data, size_t size_bytes) {
  SWITCHYARD_CHECK(file_ >= 0, "written after finish: ", path_.string());
  const auto* bytes = static_cast<const std::byte*>(data);
  size_bytes_ += size_bytes;
  while (size_bytes > 0) {
    if (buffer_.empty() && size_bytes >= kChunkBytes) {
      put_chunk(bytes, kChunkBytes);
      bytes += kChunkBytes;
      size_bytes -= kChunkBytes;
      continue;
    }
    if (buffer_.capacity() < kChunkBytes) buffer_.reserve(kChunkBytes);
    const size_t taken = std::min<size_t>(size_bytes, kChunkBytes - buffer_.size());
    buffer_.insert(buffer_.end(), bytes, bytes + taken);
    bytes += taken;
    size_bytes -= taken;
    if (buffer_.size() == kChunkBytes) {
      put_chunk(buffer_.data(), buffer_.size());
      buffer_.clear();
    }
  }
}

void FileOutput::finish() {
  SWITCHYARD_CHECK(file_ >= 0, "finished twice: ", path_.string());
  if (!buffer_.empty()) put_chunk(buffer_.data(), buffer_.size());
  buffer_.clear();
  if (const int error = files_.sync(file_)) {
    throw_file_error(error, "cannot write the file to the disk", path_);
  }
  const int file = std::exchange(file_, -1);
  if (const int error = files_.close(file)) {
    throw_file_error(error, "cannot close the file", path_);
  }
}

FileInput::FileInput(FileSystem& files, Path path, Links links)
    : files_(files), path_(std::move(path)) {
  int file = -1;
  if (const int error = files_.open(path_, links, file, size_bytes_)) {
    throw_file_error(error, "cannot read the file", path_);
  }
  file_ = file;
}

FileInput::~FileInput() {
  if (file_ >= 0) files_.close(file_);
}

void FileInput::read(uint64_t offset, void* data, size_t size_bytes) {
  auto* bytes = static_cast<std::byte*>(data);
  while (size_bytes > 0) {
    size_t read = 0;
    const int error = files_.read(file_, offset, bytes, size_bytes, read);
    if (error == EINTR) continue;
    if (error != 0) throw_file_error(error, "cannot read the file", path_);
    if (read == 0) {
      throw CheckpointError(fmt::format("the file ends at byte {} while being read", offset),
                            path_.string());
    }
    bytes += read;
    offset += read;
    size_bytes -= read;
  }
}

FileMapping::FileMapping(FileSystem& files, const Path& path, Links links) : files_(&files) {
  int file = -1;
  if (const int error = files.open(path, links, file, size_bytes_)) {
    throw_file_error(error, "cannot read the file", path);
  }
  const int error = files.map(file, size_bytes_, data_);
  files.close(file);
  if (error != 0) throw_file_error(error, "cannot read the file", path);
}

FileMapping::~FileMapping() { files_->unmap(data_, size_bytes_); }

FileMapping::FileMapping(FileMapping&& other) noexcept
    : files_(other.files_),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

}  // namespace switchyard
