// How many blocks of a kernel fit on a multiprocessor, by NVIDIA's own calculation (header only).
// Reads lines "sm registers static_shared_bytes dynamic_shared_bytes threads" and prints for each
// "blocks limit", the limit as a word.
#include <cuda_occupancy.h>

#include <cstdio>
#include <cstring>

static cudaOccDeviceProp device_of(int sm) {
  cudaOccDeviceProp device{};
  device.computeMajor = sm / 10;
  device.computeMinor = sm % 10;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = 2048;
  device.regsPerBlock = device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = 48 << 10;
  device.sharedMemPerMultiprocessor = (sm == 80 ? 164 : 228) << 10;
  device.sharedMemPerBlockOptin = (sm == 80 ? 163 : 227) << 10;
  device.reservedSharedMemPerBlock = 1 << 10;
  device.numSms = sm == 80 ? 108 : 132;
  return device;
}

static const char* name_of(unsigned limits) {
  if ((limits & OCC_LIMIT_REGISTERS) != 0) return "registers";
  if ((limits & OCC_LIMIT_SHARED_MEMORY) != 0) return "shared";
  if ((limits & OCC_LIMIT_WARPS) != 0) return "threads";
  return "blocks";
}

int main() {
  int sm = 0, registers = 0, threads = 0;
  size_t shared = 0, dynamic = 0;
  while (std::scanf("%d %d %zu %zu %d", &sm, &registers, &shared, &dynamic, &threads) == 5) {
    const cudaOccDeviceProp device = device_of(sm);
    cudaOccFuncAttributes kernel{};
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = shared;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = dynamic;
    const cudaOccDeviceState state{};
    cudaOccResult result{};
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads,
                                                dynamic) != CUDA_OCC_SUCCESS) {
      return 1;
    }
    std::printf("%d %s\n", result.activeBlocksPerMultiprocessor, name_of(result.limitingFactors));
  }
  return 0;
}
