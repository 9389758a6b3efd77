#include "backends/cuda/plugin.h"

#include <cuda_runtime.h>

#include <cstdio>

#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/gpu_port.h"
#include "base/check.h"
#include "base/version.h"
#include "collectives/nccl/nccl.h"

namespace switchyard {
namespace {

// Without a driver CUDA leaves the count as it was: the status tells.
int count_devices(std::string& reason) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  reason = status == cudaSuccess ? "the driver sees no device" : cudaGetErrorString(status);
  cudaGetLastError();
  return 0;
}

std::string version_text(int version) {  // 13020 is 13.2
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string describe() {
  std::string text, reason;
  for (int device = 0; device < count_devices(reason); ++device) {
    cudaDeviceProp properties = {};
    GPU_CHECK(cudaGetDeviceProperties(&properties, device));
    char memory[32];
    std::snprintf(memory, sizeof(memory), "%.1f GiB",
                  static_cast<double>(properties.totalGlobalMem) / (1 << 30));
    text += std::string(properties.name) + " (" + memory + ", compute capability " +
            std::to_string(properties.major) + "." + std::to_string(properties.minor) + "), ";
  }
  int driver = 0, runtime = 0;
  GPU_CHECK(cudaDriverGetVersion(&driver));
  GPU_CHECK(cudaRuntimeGetVersion(&runtime));
  return text + "driver for CUDA " + version_text(driver) + ", built with " + version_text(runtime);
}

std::unique_ptr<Kernels> make_kernels(int device, int rank) {
  set_current_rank(rank);  // this library's copy of it
  return make_cuda_kernels(device);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const CudaPlugin* switchyard_cuda_plugin() {
  static const CudaPlugin plugin = {.version = kVersion,
                                    .count_devices = count_devices,
                                    .describe = describe,
                                    .make_kernels = make_kernels,
                                    .make_collectives = make_nccl_collectives};
  return &plugin;
}

}  // namespace switchyard
