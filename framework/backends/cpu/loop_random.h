// base/random.h's keys as the vector loops take them.
#pragma once

#include "backends/cpu/vector_loops.h"
#include "base/random.h"

namespace switchyard::cpu {

inline LoopRandom loop_random(const RandomKey& key, int64_t token, uint32_t choice) {
  const uint32_t what =
      (uint32_t{key.layer} << 16) | ((choice & 0xFFu) << 8) | static_cast<uint32_t>(key.purpose);
  return {static_cast<uint32_t>(token),          what, key.step, static_cast<uint32_t>(key.seed),
          static_cast<uint32_t>(key.seed >> 32), 0};
}

}  // namespace switchyard::cpu
