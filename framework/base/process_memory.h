// What the system says of this process's memory.
#pragma once

#include <cstdint>

namespace switchyard {

struct ProcessMemory {
  int64_t resident = 0, peak_resident = 0;  // bytes; 0 where the system doesn't tell
  int64_t heap = 0;                         // bytes taken from the heap and not given back
};
ProcessMemory process_memory();

// From here on large blocks that are given back go to the system at once, instead of waiting in the
// heap for others of their size: for programs whose large blocks come and go at their start only.
void return_large_blocks_to_system();

}  // namespace switchyard
