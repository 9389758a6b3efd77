// What a .cu file needs beyond C++ and NVIDIA's headers: shared memory, launches and checked calls.
// The only place that knows which of two compilers reads the file: nvcc, for a GPU, or g++, for the
// emulation of tests/cuda_emulation/, which runs the same source on the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <concepts>
#include <cstdint>
#include <source_location>
#include <string>
#include <utility>

#include "base/errors.h"

// GPU_SHARED(float, tile, 32 * 33); an array of the block's shared memory, aligned to 16 bytes and
// uninitialised, one for each place in the source (each instantiation of a template has its own).
// GPU_DYN_SHARED(float, scores); the T* to the bytes that the launch asked for; there is one such
// area, whatever the name and type.
#ifdef SWITCHYARD_CUDA_EMULATION
#define GPU_SHARED(T, name, N)                                \
  T(&name)                                                    \
  [N] = *static_cast<T(*)[N]>(::cuda_emulation::shared_array( \
      [] {                                                    \
        static char place;                                    \
        return &place;                                        \
      }(),                                                    \
      sizeof(T[N])))
#define GPU_DYN_SHARED(T, name) T* name = static_cast<T*>(::cuda_emulation::dynamic_shared())
#else
#define GPU_SHARED(T, name, N) __shared__ __align__(16) T name[N]
#define GPU_DYN_SHARED(T, name)                                       \
  extern __shared__ __align__(16) unsigned char gpu_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(gpu_dynamic_shared)
#endif

// GPU_CHECK(cudaStreamSynchronize(stream)); throws where a call of the CUDA runtime fails, with the
// call's text and CUDA's reason: SpaceError for want of memory, else Error(kDefect).
#define GPU_CHECK(call) ::switchyard::gpu_check((call), #call)

namespace switchyard {

inline void gpu_check(cudaError_t status, const std::string& call,
                      std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the error is told here; a later check must not find it again
  const std::string what = call + ": " + cudaGetErrorString(status);
  const std::string place = std::string(where.file_name()) + ":" + std::to_string(where.line());
  if (status == cudaErrorMemoryAllocation) throw SpaceError(what, place);
  throw Error(ExitCode::kDefect, what, place);
}

// The blocks of a launch, and where in the source it stands.
struct GpuGrid {
  GpuGrid(dim3 blocks, std::source_location place = std::source_location::current())
      : size(blocks), where(place) {}
  template <std::integral Count>
  GpuGrid(Count blocks, std::source_location place = std::source_location::current())
      : size(static_cast<unsigned>(blocks)), where(place) {
    if (static_cast<int64_t>(blocks) < 0 || static_cast<int64_t>(blocks) > INT32_MAX) {
      throw Error(ExitCode::kDefect, "a grid of " + std::to_string(blocks) + " blocks",
                  std::string(place.file_name()) + ":" + std::to_string(place.line()));
    }
  }

  dim3 size;
  std::source_location where;
};

// Enqueues kernel(args...) on the stream; a grid without blocks enqueues nothing. Throws like
// GPU_CHECK with the kernel's name and the place of the launch.
//   block         threads of a block; their number is a multiple of 32
//   shared_bytes  for GPU_DYN_SHARED; above 48 KiB the kernel is given leave for it
template <typename... Parameters, typename... Arguments>
void gpu_launch(void (*kernel)(Parameters...), GpuGrid grid, dim3 block, size_t shared_bytes,
                cudaStream_t stream, Arguments&&... arguments) {
  if (grid.size.x == 0 || grid.size.y == 0 || grid.size.z == 0) return;
  const auto check = [&](cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    const char* name = nullptr;
    if (cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)) != cudaSuccess) name = "?";
    gpu_check(status, what + (" of kernel " + std::string(name)), grid.where);
  };
  constexpr size_t kAlwaysAllowed = 48 * 1024;
  if (shared_bytes > kAlwaysAllowed) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "shared memory");
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.size;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), "launch");
}

}  // namespace switchyard
