// An in-order queue of a CUDA device, with the pinned memory that host values travel through.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>

#include "tensor/memory.h"
#include "tensor/stream.h"

namespace switchyard::cuda {

class CudaEvent final : public Event {
 public:
  // The point after everything enqueued on the stream so far.
  explicit CudaEvent(cudaStream_t stream);
  ~CudaEvent() override;
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void wait() override;
  cudaEvent_t handle() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

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
    std::byte* data = nullptr;
    std::unique_ptr<CudaEvent> read;  // after the last copy out of it
  };
  void allocate(size_t half_bytes);
  void release();
  void make_room(size_t size_bytes);

  cudaStream_t stream_;
  std::array<Half, 2> halves_;
  size_t half_bytes_ = 0, used_bytes_ = 0;
  size_t current_ = 0;
};

// Memory that cuBLAS works in; per stream, for products of different streams may overlap.
struct ProductWorkspace {
  void* data = nullptr;
  size_t size_bytes = 0;
};

class CudaStream final : public Stream {
 public:
  //   memory  of its device; outlives it
  explicit CudaStream(Memory& memory);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  std::unique_ptr<Event> record() override;
  void wait(Event& event) override;
  void synchronize() override;

  cudaStream_t handle() const { return stream_; }
  StagingRing& staging() { return *staging_; }

  // What NVIDIA recommends for Hopper; more than Ampere needs.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;
  ProductWorkspace product_workspace();  // allocated on first use

 private:
  Memory& memory_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<StagingRing> staging_;
  void* workspace_ = nullptr;
};

}  // namespace switchyard::cuda
