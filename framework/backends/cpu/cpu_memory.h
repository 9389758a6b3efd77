// The host's memory, whose large copies to elsewhere go past the caches.
#pragma once

#include "tensor/memory.h"

namespace switchyard::cpu {

class CpuMemory final : public HostMemory {
 public:
  static CpuMemory& instance();

  // What is copied out in large pieces isn't read soon. Stored past the caches it costs two
  // transfers of memory instead of three: a line that is overwritten whole isn't read before.
  void copy_out(void* host, const void* source, size_t size_bytes) override;
};

}  // namespace switchyard::cpu
