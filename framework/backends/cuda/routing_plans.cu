// RoutingOps: room per expert, who gets it, and what that costs.
#include "backends/cuda/choosing.h"
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/group_columns.h"

namespace switchyard {
namespace cuda {
namespace {

// The tokens of a group whose k-th choice is one expert.
template <bool kByPosition>
struct ChoicesOfExpert {
  static constexpr bool kEqualKeys = kByPosition;
  const int32_t* expert;  // of the group's first token, as the next two
  const float* priority;
  int32_t* kept;
  int64_t choices, k;
  int32_t wanted;

  __device__ bool is_candidate(int64_t i) const { return expert[i * choices + k] == wanted; }
  __device__ uint32_t key(int64_t i) const {
    return kByPosition ? 0 : order_bits(priority[i * choices + k]);
  }
  __device__ void take(int64_t i) const { kept[i * choices + k] = wanted; }
};

// A block gives out the room of one expert in one group. All first choices take room before any
// second choice does (GShard, section 3.2): the expert's k-th choices share what the earlier ones
// left, whatever becomes of the tokens at other experts.
template <bool kByPosition>
__global__ void plan_capacity_kernel(const int32_t* expert, const float* priority,
                                     GroupPieces groups, int64_t choices, int64_t experts,
                                     int64_t capacity, int32_t* kept) {
  const int64_t g = blockIdx.x / experts;
  const int64_t first = groups.first(g) * choices;
  ChoicesOfExpert<kByPosition> items{expert + first,
                                     kByPosition ? nullptr : priority + first,
                                     kept + first,
                                     choices,
                                     0,
                                     static_cast<int32_t>(blockIdx.x % experts)};
  const int64_t tokens = groups.end(g) - groups.first(g);
  int64_t room = capacity;
  for (items.k = 0; items.k < choices && room > 0; ++items.k) {
    const int64_t wanted = take_smallest(items, tokens, room);
    room -= wanted < room ? wanted : room;
  }
}

// Sorts keys in place, ascending, by compare and exchange of pairs (bitonic, each stage's first
// step mirrored, so that any count does). All threads of the block call; barriers inside.
__device__ void sort_keys(uint64_t* keys, int64_t count) {
  const auto exchange = [&](int64_t i, int64_t j) {
    if (j <= i || j >= count || keys[i] <= keys[j]) return;
    const uint64_t key = keys[i];
    keys[i] = keys[j];
    keys[j] = key;
  };
  for (int64_t size = 2; size / 2 < count; size *= 2) {
    for (int64_t i = threadIdx.x; i < count; i += kRowThreads) exchange(i, i ^ (size - 1));
    __syncthreads();
    for (int64_t stride = size / 4; stride > 0; stride /= 2) {
      for (int64_t i = threadIdx.x; i < count; i += kRowThreads) exchange(i, i ^ stride);
      __syncthreads();
    }
  }
}

struct Reroute {
  const float* scores;
  const int32_t* expert;
  const float* priority;  // null: by position alone
  GroupPieces groups;
  int64_t choices, experts, capacity;
  uint64_t* keys;  // [T], of priorities
  int32_t* rooms;  // [groups, experts]
  int32_t* kept;
};

// Where the k-th choice of token t lands, or -1: the same in all 32 lanes.
__device__ int32_t place_choice(const Reroute& plan, const int32_t* room, int64_t t, int64_t k,
                                int32_t wanted) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto can_take = [&](int64_t e) {
    bool can = room[e] > 0;
    for (int64_t j = 0; j < k; ++j) can = can && plan.kept[t * plan.choices + j] != e;
    return can;
  };
  if (can_take(wanted)) return wanted;
  uint64_t best = kNoKey;
  for (int64_t e = lane; e < plan.experts; e += kWarpLanes) {
    if (!can_take(e)) continue;
    const uint64_t key = best_key(plan.scores[t * plan.experts + e], e);
    best = key < best ? key : best;
  }
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, best, offset);
    best = other < best ? other : best;
  }
  return best == kNoKey ? -1 : static_cast<int32_t>(position_of(best));
}

// Gives room to the k-th choices of a group's tokens, one after another: a warp.
__device__ void place_choices(const Reroute& plan, int64_t g, int64_t k) {
  const int64_t first = plan.groups.first(g), end = plan.groups.end(g);
  const int lane = static_cast<int>(threadIdx.x);
  int32_t* room = plan.rooms + g * plan.experts;
  for (int64_t begin = first; begin < end; begin += kWarpLanes) {
    const int64_t i = begin + lane;
    const int64_t own = plan.priority == nullptr || i >= end ? i : position_of(plan.keys[i]);
    const int32_t own_wanted = i < end ? plan.expert[own * plan.choices + k] : -1;
    int32_t own_place = -1;
    for (int j = 0; j < kWarpLanes; ++j) {
      const int64_t t = __shfl_sync(kAllLanes, own, j);
      const int32_t wanted = __shfl_sync(kAllLanes, own_wanted, j);
      if (wanted < 0) continue;
      const int32_t place = place_choice(plan, room, t, k, wanted);
      __syncwarp();  // all lanes have looked at the room
      if (lane == 0 && place >= 0) room[place] -= 1;
      __syncwarp();
      if (lane == j) own_place = place;
    }
    if (i < end) plan.kept[own * plan.choices + k] = own_place;
  }
}

// One block for each group: whom a choice displaces depends on all before it.
__global__ void plan_reroute_kernel(Reroute plan) {
  const int64_t g = blockIdx.x;
  const int64_t first = plan.groups.first(g), end = plan.groups.end(g);
  int32_t* room = plan.rooms + g * plan.experts;
  const int64_t most = end - first;
  for (int64_t e = threadIdx.x; e < plan.experts; e += kRowThreads) {
    room[e] = static_cast<int32_t>(plan.capacity < most * plan.choices ? plan.capacity
                                                                       : most * plan.choices);
  }
  for (int64_t k = 0; k < plan.choices; ++k) {
    if (plan.priority != nullptr) {
      for (int64_t t = first + threadIdx.x; t < end; t += kRowThreads) {
        plan.keys[t] = order_key(plan.priority[t * plan.choices + k], t);
      }
      __syncthreads();
      sort_keys(plan.keys + first, most);
    }
    __syncthreads();
    if (threadIdx.x < kWarpLanes) place_choices(plan, g, k);
    __syncthreads();
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;  // NOLINT: what the operations below are made of

void CudaKernels::plan_capacity(ExecContext& ctx, TensorView expert, TensorView priority,
                                LeafOffsets groups, int64_t experts, int64_t capacity,
                                TensorView kept) {
  fill_bytes(ctx, kept, 0xFF);
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, groups);
  const float* of_choice = priority.absent() ? nullptr : priority.data<float>();
  gpu_launch(of_choice == nullptr ? plan_capacity_kernel<true> : plan_capacity_kernel<false>,
             blocks_for(pieces.count * experts, 1), kSelectThreads, 0, cuda_stream(ctx),
             expert.data<int32_t>(), of_choice, pieces, expert.shape()[1], experts, capacity,
             kept.data<int32_t>());
}

void CudaKernels::plan_reroute(ExecContext& ctx, TensorView scores, TensorView expert,
                               TensorView priority, LeafOffsets groups, int64_t capacity,
                               TensorView kept) {
  const int64_t tokens = scores.shape()[0], experts = scores.shape()[1];
  const ScratchScope scope(ctx.scratch);
  Reroute plan{.scores = scores.data<float>(),
               .expert = expert.data<int32_t>(),
               .priority = priority.absent() ? nullptr : priority.data<float>(),
               .groups = to_pieces(ctx, groups),
               .choices = expert.shape()[1],
               .experts = experts,
               .capacity = capacity,
               .keys = nullptr,
               .rooms = nullptr,
               .kept = kept.data<int32_t>()};
  if (plan.priority != nullptr) {
    plan.keys = static_cast<uint64_t*>(ctx.scratch.allocate(DType::kInt64, {tokens}).raw());
  }
  plan.rooms = ctx.scratch.allocate(DType::kInt32, {plan.groups.count, experts}).data<int32_t>();
  gpu_launch(plan_reroute_kernel, blocks_for(plan.groups.count, 1), kRowThreads, 0,
             cuda_stream(ctx), plan);
}

namespace {

constexpr int64_t kDropChoices = 4096;  // of a block

struct DroppedWeight {
  double all, lost;
};

//   of_block  [blocks]
__global__ void sum_dropped_kernel(const int32_t* expert, const int32_t* kept, const float* weight,
                                   int64_t count, int64_t choices, DroppedWeight* of_block,
                                   int64_t* dropped) {
  GPU_DYN_SHARED(int, of_rank);  // dropped k-th choices of this block
  for (int64_t k = threadIdx.x; k < choices; k += kRowThreads) of_rank[k] = 0;
  __syncthreads();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kDropChoices;
  const int64_t end = first + kDropChoices < count ? first + kDropChoices : count;
  DroppedWeight own{0, 0};
  for (int64_t i = first + threadIdx.x; i < end; i += kRowThreads) {
    if (expert[i] < 0) continue;
    own.all += static_cast<double>(weight[i]);
    if (kept[i] >= 0) continue;
    own.lost += static_cast<double>(weight[i]);
    atomicAdd(&of_rank[i % choices], 1);
  }
  own.all = block_sum<kRowThreads>(own.all);
  own.lost = block_sum<kRowThreads>(own.lost);
  if (threadIdx.x == 0) of_block[blockIdx.x] = own;
  for (int64_t k = threadIdx.x; k < choices; k += kRowThreads) {
    if (of_rank[k] == 0) continue;
    atomicAdd(reinterpret_cast<unsigned long long*>(dropped + k),
              static_cast<unsigned long long>(of_rank[k]));
  }
}

__global__ void join_dropped_kernel(const DroppedWeight* of_block, int64_t blocks,
                                    double* weights) {
  DroppedWeight own{0, 0};
  for (int64_t i = threadIdx.x; i < blocks; i += kRowThreads) {
    own.all += of_block[i].all;
    own.lost += of_block[i].lost;
  }
  own.all = block_sum<kRowThreads>(own.all);
  own.lost = block_sum<kRowThreads>(own.lost);
  if (threadIdx.x != 0) return;
  weights[0] = own.all;
  weights[1] = own.lost;
}

}  // namespace

void CudaKernels::drop_statistics(ExecContext& ctx, TensorView expert, TensorView kept,
                                  TensorView weight, TensorView dropped, TensorView weights) {
  const int64_t count = expert.elements(), blocks = ceil_div(count, kDropChoices);
  fill_bytes(ctx, dropped, 0);
  const ScratchScope scope(ctx.scratch);
  auto* of_block =
      static_cast<DroppedWeight*>(ctx.scratch.allocate(DType::kFloat64, {blocks, 2}).raw());
  const int64_t choices = expert.shape()[1];
  gpu_launch(sum_dropped_kernel, blocks_for(blocks, 1), kRowThreads,
             static_cast<size_t>(choices) * sizeof(int), cuda_stream(ctx), expert.data<int32_t>(),
             kept.data<int32_t>(), weight.data<float>(), count, choices, of_block,
             dropped.data<int64_t>());
  gpu_launch(join_dropped_kernel, 1, kRowThreads, 0, cuda_stream(ctx), of_block, blocks,
             weights.data<double>());
}

}  // namespace switchyard
