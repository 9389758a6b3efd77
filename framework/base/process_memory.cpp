#include "base/process_memory.h"

#include <malloc.h>

#include <fstream>
#include <string>

namespace switchyard {

ProcessMemory process_memory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  int64_t kibibytes = 0;
  for (std::string line; std::getline(status, line);) {
    const auto value_of = [&](const char* name) {
      if (!line.starts_with(name)) return false;
      kibibytes = std::stoll(line.substr(line.find(':') + 1));
      return true;
    };
    if (value_of("VmRSS:")) memory.resident = kibibytes * 1024;
    if (value_of("VmHWM:")) memory.peak_resident = kibibytes * 1024;
  }
  const struct mallinfo2 heap = mallinfo2();
  memory.heap = static_cast<int64_t>(heap.uordblks + heap.hblkhd);
  return memory;
}

void return_large_blocks_to_system() {
  constexpr int kLargeBytes = 256 * 1024;
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);  // fixed: else it rises with each block given back
}

}  // namespace switchyard
