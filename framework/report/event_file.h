// A TensorBoard event file as bytes: a row of records, each with its length and two checksums. What
// is in a record, tensorboard_sink.h knows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace switchyard {

// CRC-32C (Castagnoli).
uint32_t crc32c(std::string_view bytes);

// A record: uint64 length, masked CRC of those 8 bytes, data, masked CRC of the data; all
// little-endian.
std::string event_record(std::string_view data);

class EventFile {
 public:
  // Makes the folder and a new file events.out.tfevents.<unix time>.<host>.<process>.<number> in
  // it. Throws SpaceError.
  explicit EventFile(const std::filesystem::path& folder);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // Hands the whole record to the system: what was written outlives a killed process. Throws
  // SpaceError.
  void write(std::string_view data);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace switchyard
