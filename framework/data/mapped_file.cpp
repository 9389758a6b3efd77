#include "data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/errors.h"

namespace switchyard {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto fail = [&path](int error, int file) {
    if (file >= 0) ::close(file);
    throw InputError("cannot read the file: " + std::generic_category().message(error),
                     path.string());
  };
  // Not blocking: a named pipe must not hang the program before fstat can refuse it.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) fail(errno, file);
  struct stat status {};
  if (::fstat(file, &status) != 0) fail(errno, file);
  if (S_ISDIR(status.st_mode)) fail(EISDIR, file);
  if (!S_ISREG(status.st_mode)) fail(EINVAL, file);
  size_bytes_ = static_cast<size_t>(status.st_size);
  if (size_bytes_ > 0) {
    void* start = ::mmap(nullptr, size_bytes_, PROT_READ, MAP_SHARED, file, 0);
    if (start == MAP_FAILED) fail(errno, file);
    data_ = static_cast<const std::byte*>(start);
  }
  ::close(file);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_bytes_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

}  // namespace switchyard
