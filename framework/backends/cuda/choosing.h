// How routing chooses on the device: keys by which numbers sort, and the best of a row or of a
// block's items. A number that is NaN counts as the lowest: routing stays valid until the loss is
// found not finite.
#pragma once

#include "backends/cuda/row_team.h"

namespace switchyard::cuda {

// Ascends as the number descends; a NaN comes last.
__device__ inline uint32_t order_bits(float number) {
  const auto bits = __builtin_bit_cast(uint32_t, number + 0.0f);  // -0 like 0
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0xFFFFFFFFu;
  return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

// Orders like descending numbers, then by the position, which is the key's lower half.
__device__ inline uint64_t order_key(float number, int64_t position) {
  return uint64_t{order_bits(number)} << 32 | static_cast<uint32_t>(position);
}
__device__ inline int64_t position_of(uint64_t order_key) {
  return static_cast<int64_t>(order_key & 0xFFFFFFFFu);
}

// The same where a NaN ties with minus infinity.
__device__ inline uint64_t best_key(float score, int64_t position) {
  return order_key(score == score ? score : -kInfinity<float>, position);
}

inline constexpr uint64_t kNoKey = ~uint64_t{0};

// The smallest of a row's keys that isn't below `floor`, kNoKey where there is none.
//   key_of(column)
template <typename KeyOf>
__device__ inline uint64_t next_key(const RowTeam& team, uint64_t floor, const KeyOf& key_of) {
  uint64_t best = kNoKey;
  for (int64_t c = team.lane; c < team.columns; c += team.lanes) {
    const uint64_t key = key_of(c);
    if (key >= floor && key < best) best = key;
  }
  return team.smallest(best);
}

inline constexpr int kSelectThreads = 256;  // of a block that selects
inline constexpr int kSelectWarps = kSelectThreads / kWarpLanes;

// How many earlier threads of the block have the flag, and how many in all. Barriers inside.
struct FlagCount {
  int before, all;
};
__device__ inline FlagCount count_flags(bool flag) {
  GPU_SHARED(int, of_warp, kSelectWarps);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const unsigned flags = __ballot_sync(kAllLanes, flag);
  if (lane == 0) of_warp[warp] = __popc(flags);
  __syncthreads();
  FlagCount count{__popc(flags & ((1u << lane) - 1)), 0};
  for (int w = 0; w < kSelectWarps; ++w) {
    if (w < warp) count.before += of_warp[w];
    count.all += of_warp[w];
  }
  __syncthreads();
  return count;
}

// Sum of this lane's and all earlier lanes' numbers.
__device__ inline int warp_running_sum(int x) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
#pragma unroll
  for (int offset = 1; offset < kWarpLanes; offset *= 2) {
    const int earlier = __shfl_up_sync(kAllLanes, x, offset);
    if (lane >= offset) x += earlier;
  }
  return x;
}

// Sum of this thread's and all earlier threads' numbers, for a block of kSelectThreads. Barriers
// inside.
__device__ inline int block_running_sum(int x) {
  GPU_SHARED(int, of_warp, kSelectWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  int sum = warp_running_sum(x);
  if (threadIdx.x % kWarpLanes == kWarpLanes - 1) of_warp[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += of_warp[w];
  __syncthreads();
  return sum;
}

// The key up to which items are taken, and how many of those that have it.
struct Threshold {
  uint32_t key;
  int ties;
};

// Of the room-th smallest key, found byte by byte; there are more candidates than room.
template <typename Items>
__device__ inline Threshold threshold_of(const Items& items, int64_t count, int room) {
  constexpr int kBins = kSelectThreads;  // one for each value of a byte
  GPU_SHARED(int, bins, kBins);
  GPU_SHARED(int, found, 2);
  Threshold threshold{0, room};
  uint32_t known = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count; i += kSelectThreads) {
      if (!items.is_candidate(i)) continue;
      const uint32_t key = items.key(i);
      if (((key ^ threshold.key) & known) == 0) atomicAdd(&bins[key >> shift & 0xFFu], 1);
    }
    __syncthreads();
    const int in_bin = bins[threadIdx.x];
    const int up_to = block_running_sum(in_bin);
    if (up_to - in_bin < threshold.ties && threshold.ties <= up_to) {
      found[0] = static_cast<int>(threadIdx.x);
      found[1] = threshold.ties - (up_to - in_bin);
    }
    __syncthreads();
    threshold.key |= static_cast<uint32_t>(found[0]) << shift;
    threshold.ties = found[1];
    known |= 0xFFu << shift;
    __syncthreads();
  }
  return threshold;
}

// Takes the `room` candidates of the smallest keys among items 0..count-1, ties to the lower item.
// All kSelectThreads of the block call; barriers inside.
//   items    is_candidate(i), key(i), take(i); kEqualKeys: all keys are 0
//   returns  how many candidates there are
template <typename Items>
__device__ inline int64_t take_smallest(const Items& items, int64_t count, int64_t room) {
  int own = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSelectThreads) own += items.is_candidate(i);
  const int64_t candidates = block_sum<kSelectThreads>(own);
  if (candidates <= room) {
    for (int64_t i = threadIdx.x; i < count; i += kSelectThreads) {
      if (items.is_candidate(i)) items.take(i);
    }
    return candidates;
  }
  if (room == 0) return candidates;
  Threshold threshold{0, static_cast<int>(room)};
  if constexpr (!Items::kEqualKeys) threshold = threshold_of(items, count, threshold.ties);
  int64_t ties = 0;
  for (int64_t first = 0; first < count; first += kSelectThreads) {
    const int64_t i = first + threadIdx.x;
    const bool is_candidate = i < count && items.is_candidate(i);
    const uint32_t key = is_candidate ? items.key(i) : 0;
    const bool is_tie = is_candidate && key == threshold.key;
    const FlagCount tied = count_flags(is_tie);
    const bool below = is_candidate && key < threshold.key;
    if (below || (is_tie && ties + tied.before < threshold.ties)) items.take(i);
    ties += tied.all;
  }
  return candidates;
}

}  // namespace switchyard::cuda
