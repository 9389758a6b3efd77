// Where a device's bytes live. A backend owns one; the host's is HostMemory.
#pragma once

#include <cstddef>

namespace switchyard {

// Every allocation starts at a multiple of this, for vector loads and device transactions.
inline constexpr size_t kAlignment = 128;

class Memory {
 public:
  virtual ~Memory() = default;

  // Uninitialised bytes, aligned to kAlignment. Throws SpaceError.
  virtual void* allocate(size_t size_bytes) = 0;
  virtual void release(void* data) noexcept = 0;

  // Blocking copies between this memory and the host's.
  virtual void copy_in(void* target, const void* host, size_t size_bytes) = 0;
  virtual void copy_out(void* host, const void* source, size_t size_bytes) = 0;

  // Whether the host may read and write through the pointers (when the stream is idle).
  virtual bool host_accessible() const = 0;
};

class HostMemory : public Memory {
 public:
  static HostMemory& instance();

  void* allocate(size_t size_bytes) override;
  void release(void* data) noexcept override;
  void copy_in(void* target, const void* host, size_t size_bytes) override;
  void copy_out(void* host, const void* source, size_t size_bytes) override;
  bool host_accessible() const override { return true; }
};

}  // namespace switchyard
