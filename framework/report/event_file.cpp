#include "report/event_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <isa-l/crc.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

#include "base/errors.h"
#include "base/host_name.h"

namespace switchyard {

static_assert(std::endian::native == std::endian::little);

static std::string last_error() { return std::generic_category().message(errno); }

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~uint32_t{0};
  constexpr size_t kPiece = size_t{1} << 30;  // the library counts in int
  for (; !bytes.empty(); bytes.remove_prefix(std::min(kPiece, bytes.size()))) {
    const std::string_view piece = bytes.substr(0, kPiece);
    // The library only reads, though its argument isn't const.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(piece.data()));
    crc = crc32_iscsi(data, static_cast<int>(piece.size()), crc);
  }
  return ~crc;
}

// A CRC stored beside its data is rotated and shifted, so that a CRC over both says something.
static uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

template <typename Number>
static std::string bytes_of(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

std::string event_record(std::string_view data) {
  const std::string length = bytes_of(static_cast<uint64_t>(data.size()));
  std::string record = length + bytes_of(masked(crc32c(length)));
  record.append(data);
  return record + bytes_of(masked(crc32c(data)));
}

EventFile::EventFile(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string name =
      fmt::format("events.out.tfevents.{}.{}.{}", std::time(nullptr), host_name(), ::getpid());
  // In containers a process number comes back within the second.
  for (int number = 0; descriptor_ < 0; ++number) {
    path_ = folder / fmt::format("{}.{}", name, number);
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) {
      throw SpaceError("cannot make a TensorBoard file: " + last_error(), path_.string(),
                       "make the run directory writable, or set run.tensorboard: false");
    }
  }
}

EventFile::~EventFile() { ::close(descriptor_); }

void EventFile::write(std::string_view data) {
  const std::string record = event_record(data);
  for (size_t done = 0; done < record.size();) {
    const ssize_t written = ::write(descriptor_, record.data() + done, record.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      throw SpaceError("writing the TensorBoard file failed: " + last_error(), path_.string(),
                       "free some disk space, or set run.tensorboard: false");
    }
    done += static_cast<size_t>(written);
  }
}

}  // namespace switchyard
