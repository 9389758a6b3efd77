#include "backends/cuda/cuda_memory.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

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
  held_.emplace(data, Held{size_bytes, use_});
  return data;
}

std::string_view CudaMemory::exchange_use(std::string_view use) {
  const std::lock_guard lock(mutex_);
  return std::exchange(use_, use);
}

// What this rank holds by use, the most first.
std::string CudaMemory::held_text() const {
  std::map<std::string_view, size_t> by_use;
  for (const auto& [data, held] : held_) by_use[held.use] += held.size_bytes;
  std::vector<std::pair<size_t, std::string_view>> uses;
  for (const auto& [use, size_bytes] : by_use) uses.emplace_back(size_bytes, use);
  std::sort(uses.rbegin(), uses.rend());
  std::string text;
  for (const auto& [size_bytes, use] : uses) {
    text += (text.empty() ? "" : ", ") + std::string(use) + " " + mebibytes(size_bytes);
  }
  return text.empty() ? "nothing" : text;
}

void CudaMemory::throw_out_of_memory(size_t size_bytes) {
  cudaGetLastError();  // told here
  size_t free = 0, total = 0;
  GPU_CHECK(cudaMemGetInfo(&free, &total));
  const std::lock_guard lock(mutex_);
  throw SpaceError("out of GPU memory: " + mebibytes(size_bytes) + " for " + std::string(use_) +
                       " asked for, " + mebibytes(free) + " of " + mebibytes(total) + " free",
                   "GPU " + std::to_string(device_) + "; this rank holds " + held_text(),
                   "use a smaller model or batch, more micro_batches, or more ranks");
}

void CudaMemory::release(void* data) noexcept {
  cudaSetDevice(device_);
  cudaFree(data);  // waits for work that may still use it
  const std::lock_guard lock(mutex_);
  held_.erase(data);
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
