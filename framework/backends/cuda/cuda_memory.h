// Memory of one CUDA device, and what an error of running out of it says.
#pragma once

#include <cuda_runtime.h>

#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "tensor/memory_use.h"

namespace switchyard::cuda {

// Every call allocates from or releases to the driver, which waits for the device on a release:
// weights and arenas are made before they are needed in every step.
class CudaMemory final : public Memory, public MemoryUses {
 public:
  explicit CudaMemory(int device);
  ~CudaMemory() override;
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;

  void* allocate(size_t size_bytes) override;
  void release(void* data) noexcept override;
  void copy_in(void* target, const void* host, size_t size_bytes) override;
  void copy_out(void* host, const void* source, size_t size_bytes) override;
  bool host_accessible() const override { return false; }
  std::string_view exchange_use(std::string_view use) override;

  int device() const { return device_; }

 private:
  [[noreturn]] void throw_out_of_memory(size_t size_bytes);
  void copy(void* to, const void* from, size_t size_bytes, cudaMemcpyKind kind);
  std::string held_text() const;

  struct Held {
    size_t size_bytes;
    std::string_view use;
  };
  int device_;
  cudaStream_t copies_ = nullptr;
  std::mutex mutex_;  // of what is held: checkpoints are written by a thread of their own
  std::unordered_map<void*, Held> held_;
  std::string_view use_ = "the rest";
};

}  // namespace switchyard::cuda
