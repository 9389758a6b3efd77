// An in-order queue of a CUDA device, with the pinned memory that host values travel through.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>

#include "tensor/stream.h"

namespace switchyard::cuda {

// A ring in pinned host memory. What is put in stays until the device has read it; the caller's
// memory is free at once.
class StagingRing {
 public:
  explicit StagingRing(cudaStream_t stream);
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  // Enqueues a copy of host bytes to the device.
  void upload(void* target, const void* host, size_t size_bytes);

 private:
  // One half is filled while the device may still read the other.
  struct Half {
    char* data = nullptr;
    cudaEvent_t read = nullptr;  // after the last copy out of it
  };
  void allocate(size_t half_bytes);
  void release() noexcept;

  cudaStream_t stream_;
  std::array<Half, 2> halves_;
  size_t half_bytes_ = 0, used_bytes_ = 0;
  size_t current_ = 0;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(int device);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  std::unique_ptr<Event> record() override;
  void wait(Event& event) override;
  void synchronize() override;

  cudaStream_t handle() const { return stream_; }
  StagingRing& staging() { return *staging_; }

 private:
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<StagingRing> staging_;
};

}  // namespace switchyard::cuda
