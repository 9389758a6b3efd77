#include "cuda_emulation/planted_kernels.h"

namespace switchyard::planted {
namespace {

__global__ void rings(Mistake mistake, const float* x, float* y, int rounds) {
  GPU_SHARED(float, ring, kThreads + 1);
  const unsigned here = threadIdx.x, i = blockIdx.x * kThreads + here;
  float sum = x[i];
  for (int round = 0; round < rounds; ++round) {
    ring[here] = sum;
    if (mistake != Mistake::kReadsTooEarly) __syncthreads();
    const unsigned right = mistake == Mistake::kSharedPastTheEnd ? here + 2 : (here + 1) % kThreads;
    sum += ring[right];
    if (mistake != Mistake::kReusesTooEarly) __syncthreads();
  }
  y[i] = sum;
}

__global__ void warp_rings(Mistake mistake, const float* x, float* y) {
  GPU_SHARED(float, ring, kThreads);
  const unsigned here = threadIdx.x, i = blockIdx.x * kThreads + here;
  ring[here] = x[i];
  if (mistake != Mistake::kNoSyncWarp) __syncwarp();
  y[i] = x[i] + ring[here / 32 * 32 + (here + 1) % 32];
}

__global__ void count_threads(Mistake mistake, int* sum) {
  if (mistake == Mistake::kBlocksRace) {
    const int before = __reduce_add_sync(0xFFFFFFFFu, 1);
    if (threadIdx.x == 0) *sum += 2 * before;
  } else {
    atomicAdd(sum, 1);
  }
}

__global__ void copy(Mistake mistake, const float* x, float* y, int count) {
  const int first = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (first >= count) return;
  if (mistake == Mistake::kReadsPastTheEnd) ++x;
  const float* from = x + first + (mistake == Mistake::kMisaligned ? 1 : 0);
  const int left = count - first;
  if (mistake == Mistake::kMisaligned && left <= 4) return;
  if (mistake == Mistake::kReadsPastTheEnd) {
    for (int i = 0; i < 4; ++i) y[first + i] = from[i];
  } else {
    *reinterpret_cast<float4*>(y + first) = *reinterpret_cast<const float4*>(from);
  }
}

__global__ void warp_operations(int64_t* y) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  const int lane = static_cast<int>(threadIdx.x);
  int64_t* row = y + lane * 10;
  row[0] = __shfl_sync(kAll, lane, 5);
  row[1] = __shfl_up_sync(kAll, lane, 3, 8);
  row[2] = __shfl_down_sync(kAll, int64_t{lane}, 3, 16);
  row[3] = static_cast<int64_t>(__shfl_xor_sync(kAll, 0.5 * lane, 17) * 2);
  row[4] = __ballot_sync(kAll, lane % 3 == 0);
  row[5] = __any_sync(kAll, lane == 40) * 2 + __all_sync(kAll, lane < 32);
  row[6] = __match_any_sync(kAll, lane % 4);
  row[7] = __reduce_max_sync(kAll, lane - 40) * 1000 + __reduce_min_sync(kAll, lane - 40);
  // Half a warp on its own.
  row[8] = lane < 16 ? __reduce_add_sync(0xFFFFu, lane) : __shfl_sync(0xFFFF0000u, lane, 20);
  row[9] = __syncthreads_count(lane % 2) * 100 + __syncthreads_and(lane < 31) * 10 +
           __syncthreads_or(lane == 7);
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void exited_lanes() {
  if (threadIdx.x % 32 == 3) return;
  __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
}

__global__ void foreign_lane() { __shfl_sync(1u << (threadIdx.x % 32), 1, 7); }

__global__ void too_much_shared() {
  GPU_SHARED(double, large, 7000);
  large[threadIdx.x] = 1;
}

__global__ void reads_uninitialised(float* y) {
  GPU_SHARED(float, never_written, kThreads);
  y[threadIdx.x] = never_written[threadIdx.x];
}

}  // namespace

void launch_rings(Mistake mistake, const float* x, float* y, int blocks, int rounds,
                  cudaStream_t stream) {
  gpu_launch(rings, blocks, kThreads, 0, stream, mistake, x, y, rounds);
}
void launch_warp_rings(Mistake mistake, const float* x, float* y, int blocks, cudaStream_t stream) {
  gpu_launch(warp_rings, blocks, kThreads, 0, stream, mistake, x, y);
}
void launch_count(Mistake mistake, int* sum, int blocks, cudaStream_t stream) {
  gpu_launch(count_threads, blocks, kThreads, 0, stream, mistake, sum);
}
void launch_copy(Mistake mistake, const float* x, float* y, int count, cudaStream_t stream) {
  gpu_launch(copy, (count + 255) / 256, kThreads, 0, stream, mistake, x, y, count);
}
void launch_warp_operations(int64_t* y, cudaStream_t stream) {
  gpu_launch(warp_operations, 1, 32, 0, stream, y);
}
void launch_divergent_barrier(cudaStream_t stream) {
  gpu_launch(divergent_barrier, 2, kThreads, 0, stream);
}
void launch_two_barriers(cudaStream_t stream) { gpu_launch(two_barriers, 1, kThreads, 0, stream); }
void launch_exited_lanes(cudaStream_t stream) { gpu_launch(exited_lanes, 1, kThreads, 0, stream); }
void launch_foreign_lane(cudaStream_t stream) { gpu_launch(foreign_lane, 1, kThreads, 0, stream); }
void launch_too_much_shared(cudaStream_t stream) {
  gpu_launch(too_much_shared, 1, kThreads, 0, stream);
}
void launch_reads_uninitialised(float* y, cudaStream_t stream) {
  gpu_launch(reads_uninitialised, 1, kThreads, 0, stream, y);
}

}  // namespace switchyard::planted
