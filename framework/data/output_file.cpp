#include "data/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {

static constexpr size_t kBufferBytes = size_t{1} << 20;

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
  if (file_ < 0) fail("cannot create the file");
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (file_ >= 0) ::close(file_);
}

void OutputFile::fail(const char* action) const {
  const int error = errno;
  const std::string what = fmt::format("{}: {}", action, std::generic_category().message(error));
  if (error == ENOSPC || error == EDQUOT) {
    throw SpaceError(what, path_.string(), "free some space and run the command again");
  }
  throw InputError(what, path_.string());
}

// Writes all of it, whatever write() takes at once.
template <typename Write>
static bool write_wholly(const char* data, size_t size_bytes, Write&& write) {
  while (size_bytes > 0) {
    const ssize_t written = write(data, size_bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    data += written;
    size_bytes -= static_cast<size_t>(written);
  }
  return true;
}

void OutputFile::write(const void* data, size_t size_bytes) {
  SWITCHYARD_CHECK(file_ >= 0, "written after finish: ", path_.string());
  const char* bytes = static_cast<const char*>(data);
  size_bytes_ += static_cast<int64_t>(size_bytes);
  if (buffer_.size() + size_bytes > kBufferBytes) flush();
  if (size_bytes > kBufferBytes) {
    const auto append = [this](const char* from, size_t count) {
      return ::write(file_, from, count);
    };
    if (!write_wholly(bytes, size_bytes, append)) fail("writing failed");
  } else {
    buffer_.insert(buffer_.end(), bytes, bytes + size_bytes);
  }
}

void OutputFile::flush() {
  const auto append = [this](const char* from, size_t count) {
    return ::write(file_, from, count);
  };
  if (!write_wholly(buffer_.data(), buffer_.size(), append)) fail("writing failed");
  buffer_.clear();
}

void OutputFile::write_at(int64_t offset, const void* data, size_t size_bytes) {
  SWITCHYARD_CHECK(offset >= 0 && offset + static_cast<int64_t>(size_bytes) <= size_bytes_, "at ",
                   offset);
  flush();
  const auto place = [&offset, this](const char* from, size_t count) {
    const ssize_t written = ::pwrite(file_, from, count, offset);
    if (written > 0) offset += written;
    return written;
  };
  if (!write_wholly(static_cast<const char*>(data), size_bytes, place)) fail("writing failed");
}

void OutputFile::finish() {
  flush();
  if (::fsync(file_) != 0) fail("writing to the disk failed");
  const int file = file_;
  file_ = -1;
  if (::close(file) != 0) fail("closing failed");
}

void sync_directory(const std::filesystem::path& path) {
  const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0 || ::fsync(directory) != 0) {
    const std::string reason = std::generic_category().message(errno);
    if (directory >= 0) ::close(directory);
    throw InputError("cannot sync the directory: " + reason, path.string());
  }
  ::close(directory);
}

}  // namespace switchyard
