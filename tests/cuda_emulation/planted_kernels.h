// Small kernels for the test of the emulation, each right or with one mistake planted in it.
#pragma once

#include <cstdint>

#include "backends/cuda/gpu_port.h"

namespace switchyard::planted {

inline constexpr int kThreads = 64;

// The mistakes that no report of the emulation names, only a sanitizer or a wrong result.
enum class Mistake : uint8_t {
  kNone,
  kReadsTooEarly,    // no barrier between writing and reading the shared array
  kReusesTooEarly,   // none between reading it and writing it again
  kNoSyncWarp,       // lanes exchange through shared memory without __syncwarp
  kBlocksRace,       // blocks add to one element without an atomic
  kReadsPastTheEnd,  // of the input
  kSharedPastTheEnd,
  kMisaligned  // 16-byte loads from an address that isn't a multiple of 16
};

// y[i] = x[i] + x of the right neighbour in rings of one block, `rounds` times.
void launch_rings(Mistake mistake, const float* x, float* y, int blocks, int rounds,
                  cudaStream_t stream);
// The same within a warp.
void launch_warp_rings(Mistake mistake, const float* x, float* y, int blocks, cudaStream_t stream);
// sum += blocks * kThreads.
void launch_count(Mistake mistake, int* sum, int blocks, cudaStream_t stream);
// y[i] = x[i] in 16-byte vectors; `count` is a multiple of 4.
void launch_copy(Mistake mistake, const float* x, float* y, int count, cudaStream_t stream);
// y[i] = what a warp makes of its lane numbers in many ways, packed.
void launch_warp_operations(int64_t* y, cudaStream_t stream);

// The mistakes that the emulation reports.
void launch_divergent_barrier(cudaStream_t stream);
void launch_two_barriers(cudaStream_t stream);
void launch_exited_lanes(cudaStream_t stream);
void launch_foreign_lane(cudaStream_t stream);
void launch_too_much_shared(cudaStream_t stream);

// y[i] = NaN unless shared memory starts with something else.
void launch_reads_uninitialised(float* y, cudaStream_t stream);

}  // namespace switchyard::planted
