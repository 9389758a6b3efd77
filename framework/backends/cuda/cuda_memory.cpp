#include "backends/cuda/cuda_memory.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "backends/cuda/gpu_port.h"

namespace switchyard::cuda {

static std::string mebibytes(size_t size_bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(size_bytes) / (1 << 20));
  return text;
}

CudaMemory::CudaMemory(int device) : device_(device) {
  GPU_CHECK(cudaSetDevice(device_));
  GPU_CHECK(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking));
}

CudaMemory::~CudaMemory() { cudaStreamDestroy(copies_); }

void* CudaMemory::allocate(size_t size_bytes) {
  GPU_CHECK(cudaSetDevice(device_));
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, std::max(size_bytes, kAlignment));
  if (status == cudaErrorMemoryAllocation) throw_out_of_memory(size_bytes);
  GPU_CHECK(status);
  const std::lock_guard lock(mutex_);
  held_.emplace(data, size_bytes);
  held_bytes_ += size_bytes;
  return data;
}

void CudaMemory::throw_out_of_memory(size_t size_bytes) {
  cudaGetLastError();  // told here
  size_t free = 0, total = 0;
  GPU_CHECK(cudaMemGetInfo(&free, &total));
  const std::lock_guard lock(mutex_);
  throw SpaceError(
      "out of GPU memory: " + mebibytes(size_bytes) + " asked for, " + mebibytes(free) + " of " +
          mebibytes(total) + " free",
      "GPU " + std::to_string(device_) + ", " + mebibytes(held_bytes_) + " held by this rank",
      "use a smaller model or batch, or more ranks");
}

void CudaMemory::release(void* data) noexcept {
  cudaSetDevice(device_);
  cudaFree(data);  // waits for work that may still use it
  const std::lock_guard lock(mutex_);
  const auto entry = held_.find(data);
  held_bytes_ -= entry->second;
  held_.erase(entry);
}

// A copy from or to pageable memory may return before the device has finished: hence the wait.
void CudaMemory::copy(void* to, const void* from, size_t size_bytes, cudaMemcpyKind kind) {
  if (size_bytes == 0) return;
  GPU_CHECK(cudaSetDevice(device_));
  GPU_CHECK(cudaMemcpyAsync(to, from, size_bytes, kind, copies_));
  GPU_CHECK(cudaStreamSynchronize(copies_));
}

void CudaMemory::copy_in(void* target, const void* host, size_t size_bytes) {
  copy(target, host, size_bytes, cudaMemcpyHostToDevice);
}

void CudaMemory::copy_out(void* host, const void* source, size_t size_bytes) {
  copy(host, source, size_bytes, cudaMemcpyDeviceToHost);
}

}  // namespace switchyard::cuda
