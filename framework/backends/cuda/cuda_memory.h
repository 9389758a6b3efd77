// Memory of one CUDA device, and what an error of running out of it says.
#pragma once

#include <mutex>
#include <unordered_map>

#include "tensor/memory.h"

namespace switchyard::cuda {

// Allocations and releases wait for nothing of ours, but the driver may: they belong before the
// first step, where arenas and weights are made.
class CudaMemory final : public Memory {
 public:
  explicit CudaMemory(int device) : device_(device) {}

  void* allocate(size_t size_bytes) override;
  void release(void* data) noexcept override;
  void copy_in(void* target, const void* host, size_t size_bytes) override;
  void copy_out(void* host, const void* source, size_t size_bytes) override;
  bool host_accessible() const override { return false; }

  int device() const { return device_; }

 private:
  int device_;
  std::mutex mutex_;  // of what is held: allocations may come from several threads
  std::unordered_map<void*, size_t> held_;
  size_t held_bytes_ = 0;
};

}  // namespace switchyard::cuda
