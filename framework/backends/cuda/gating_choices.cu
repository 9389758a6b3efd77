// GatingOps, second half: choices of experts and of tokens.
#include "backends/cuda/choosing.h"
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/group_columns.h"

namespace switchyard {
namespace cuda {
namespace {

// The score of one group of experts: the sum of its `each` best.
struct GroupScore {
  const float* scores;
  int64_t size, each;
  float* of_group;

  __device__ void operator()(int64_t i) const {
    const float* group = scores + i * size;
    float sum = 0;
    uint64_t floor = 0;
    for (int64_t j = 0; j < each; ++j) {
      uint64_t best = kNoKey;
      for (int64_t e = 0; e < size; ++e) {
        const uint64_t key = best_key(group[e], e);
        if (key >= floor && key < best) best = key;
      }
      sum += group[position_of(best)];
      floor = best + 1;
    }
    of_group[i] = sum;
  }
};

__global__ void keep_best_groups_kernel(const float* scores, const float* of_group, int64_t tokens,
                                        int64_t groups, int64_t top, int64_t size, int lanes,
                                        float* masked) {
  constexpr float kLowest = -0x1.fffffep127f;  // finite number
  const RowTeam team(tokens, groups, lanes);
  const float* group_scores = of_group + team.row * groups;
  uint64_t last = 0;  // key of the last of the best groups
  for (int64_t i = 0; i < top; ++i) {
    last = next_key(team, i == 0 ? 0 : last + 1,
                    [group_scores](int64_t g) { return best_key(group_scores[g], g); });
  }
  const int64_t first = team.row * groups * size;
  for (int64_t e = team.lane; e < team.columns * size; e += team.lanes) {
    const int64_t g = e / size;
    masked[first + e] = best_key(group_scores[g], g) <= last ? scores[first + e] : kLowest;
  }
}

struct SkipChoice {
  const int32_t* expert;
  const float* weight;
  RandomKey key;
  const int64_t* token;
  uint32_t column;
  int32_t *sent, *skipped;

  __device__ void operator()(int64_t t) const {
    const float uniform = random_uniform(key, token_of(token[t]), choice_of(token[t]), column);
    const bool stays = uniform < 2.0f * weight[2 * t + 1];
    sent[2 * t] = expert[2 * t];
    skipped[2 * t] = -1;
    sent[2 * t + 1] = stays ? expert[2 * t + 1] : -1;
    skipped[2 * t + 1] = stays ? -1 : expert[2 * t + 1];
  }
};

// The tokens of a group as one expert sees them.
struct TokensForExpert {
  static constexpr bool kEqualKeys = false;
  const float* probs;   // of the group's first token and the expert
  const uint8_t* mask;  // of the group's first token
  int64_t experts;
  int32_t e;
  int32_t* expert;  // as probs

  __device__ bool is_candidate(int64_t i) const { return is_in(mask, i); }
  __device__ uint32_t key(int64_t i) const { return order_bits(probs[i * experts]); }
  __device__ void take(int64_t i) const { expert[i * experts] = e; }
};

// A block chooses for one expert in one group.
__global__ void choose_tokens_kernel(const float* probs, const uint8_t* mask, GroupPieces groups,
                                     int64_t experts, int64_t capacity, int32_t* expert) {
  const int64_t g = blockIdx.x / experts, e = blockIdx.x % experts;
  const int64_t first = groups.first(g);
  const TokensForExpert items{probs + first * experts + e, mask == nullptr ? nullptr : mask + first,
                              experts, static_cast<int32_t>(e), expert + first * experts + e};
  take_smallest(items, groups.end(g) - first, capacity);
}

}  // namespace
}  // namespace cuda

using namespace cuda;  // NOLINT: what the operations below are made of

void CudaKernels::keep_best_groups(ExecContext& ctx, TensorView scores, int64_t expert_groups,
                                   int64_t top, int64_t each, TensorView masked) {
  const int64_t tokens = scores.shape()[0], size = scores.shape()[1] / expert_groups;
  const ScratchScope scope(ctx.scratch);
  auto* of_group = ctx.scratch.allocate(DType::kFloat32, {tokens, expert_groups}).data<float>();
  each_index(ctx, tokens * expert_groups, GroupScore{scores.data<float>(), size, each, of_group});
  const int lanes = lanes_for(scores.shape()[1]);
  gpu_launch(keep_best_groups_kernel, row_blocks(tokens, lanes), kRowThreads, 0, cuda_stream(ctx),
             scores.data<float>(), of_group, tokens, expert_groups, top, size, lanes,
             masked.data<float>());
}

void CudaKernels::skip_choices(ExecContext& ctx, TensorView expert, TensorView weight,
                               const RandomRows& random, TensorView sent, TensorView skipped) {
  each_index(ctx, expert.shape()[0],
             SkipChoice{expert.data<int32_t>(), weight.data<float>(), random.key,
                        random.token.data<int64_t>(), static_cast<uint32_t>(random.first_column),
                        sent.data<int32_t>(), skipped.data<int32_t>()});
}

void CudaKernels::choose_tokens(ExecContext& ctx, TensorView probs, TensorView mask,
                                LeafOffsets groups, int64_t capacity, TensorView expert) {
  fill_bytes(ctx, expert, 0xFF);
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, groups);
  const int64_t experts = probs.shape()[1];
  gpu_launch(choose_tokens_kernel, blocks_for(pieces.count * experts, 1), kSelectThreads, 0,
             cuda_stream(ctx), probs.data<float>(), mask_of(mask), pieces, experts, capacity,
             expert.data<int32_t>());
}

namespace {

// Logarithms of what scales the rows and the columns of each group.
struct Balance {
  const float* logits;
  const uint8_t* mask;
  GroupPieces groups;
  int64_t tokens, experts;
  double *row, *column;  // [T], [groups, E]
};

// What a column's scale is made of.
struct RowScaledLogit {
  Balance balance;
  __device__ double operator()(int64_t t, int64_t e) const {
    return static_cast<double>(balance.logits[t * balance.experts + e]) + balance.row[t];
  }
};

struct TokensIn {
  const uint8_t* mask;
  __device__ double operator()(int64_t t, int64_t) const { return is_in(mask, t) ? 1.0 : 0.0; }
};

// column = ln(n / E) - ln sum exp(logits + row) over the n tokens in.
struct BalanceColumn {
  Balance balance;
  const ExpSum<double>* partial;
  const double* tokens_in;  // sums of pieces [groups, pieces, 1]
  __device__ void operator()(int64_t i) const {
    const int64_t g = i / balance.experts, e = i % balance.experts;
    const double in = sum_of_pieces(tokens_in, balance.groups, g, 1, 0);
    const ExpSum<double> whole = exp_sum_of_pieces(partial, balance.groups, g, balance.experts, e);
    balance.column[i] =
        log(in / static_cast<double>(balance.experts)) - whole.largest - log(whole.sum);
  }
};

// row = -ln sum exp(logits + column) over the experts.
__global__ void balance_rows_kernel(Balance balance, int lanes) {
  const RowTeam team(balance.tokens, balance.experts, lanes);
  const float* logits = balance.logits + team.row * balance.experts;
  const bool is_row = team.has_row && is_in(balance.mask, team.row);
  const double* column =
      balance.column + (is_row ? group_of(balance.groups, team.row) * balance.experts : 0);
  const int64_t experts = is_row ? balance.experts : 0;
  double largest = -kInfinity<double>, sum = 0;
  for (int64_t e = team.lane; e < experts; e += team.lanes) {
    const double x = static_cast<double>(logits[e]) + column[e];
    largest = x > largest ? x : largest;
  }
  largest = team.largest(largest);
  for (int64_t e = team.lane; e < experts; e += team.lanes) {
    sum += exp(static_cast<double>(logits[e]) + column[e] - largest);
  }
  sum = team.sum(sum);
  if (is_row && team.lane == 0) balance.row[team.row] = -largest - log(sum);
}

struct BalancedLogit {
  Balance balance;
  float* assignment;
  __device__ void operator()(int64_t i) const {
    const int64_t t = i / balance.experts, e = i % balance.experts;
    if (!is_in(balance.mask, t)) {
      assignment[i] = 0.0f;
      return;
    }
    const double column = balance.column[group_of(balance.groups, t) * balance.experts + e];
    assignment[i] =
        static_cast<float>(exp(static_cast<double>(balance.logits[i]) + balance.row[t] + column));
  }
};

}  // namespace

void CudaKernels::sinkhorn(ExecContext& ctx, TensorView logits, TensorView mask, LeafOffsets groups,
                           int64_t iterations, TensorView assignment) {
  const ScratchScope scope(ctx.scratch);
  const int64_t tokens = logits.shape()[0], experts = logits.shape()[1];
  const GroupPieces pieces = to_pieces(ctx, groups);
  const TensorView row = ctx.scratch.allocate(DType::kFloat64, {tokens});
  const TensorView column = ctx.scratch.allocate(DType::kFloat64, {pieces.count, experts});
  fill_bytes(ctx, row, 0);
  fill_bytes(ctx, column, 0);
  const Balance balance{logits.data<float>(), mask_of(mask),        pieces, tokens, experts,
                        row.data<double>(),   column.data<double>()};
  auto* partial = allocate_exp_sums<double>(ctx, pieces, experts);
  const double* tokens_in = sum_pieces(ctx, pieces, 1, TokensIn{balance.mask});
  const int lanes = lanes_for(experts);
  for (int64_t i = 0; i < iterations; ++i) {
    exp_sum_pieces(ctx, pieces, experts, balance.mask, RowScaledLogit{balance}, partial);
    each_index(ctx, pieces.count * experts, BalanceColumn{balance, partial, tokens_in});
    gpu_launch(balance_rows_kernel, row_blocks(tokens, lanes), kRowThreads, 0, cuda_stream(ctx),
               balance, lanes);
  }
  each_index(ctx, logits.elements(), BalancedLogit{balance, assignment.data<float>()});
}

namespace {

struct JoinChoice {
  const int32_t *group, *inner;
  int64_t outer, choices, count;  // count: rows of inner a token
  int32_t experts_per_group;
  int32_t* expert;
  __device__ void operator()(int64_t i) const {
    const int64_t of_group = i / choices;
    const int32_t g = group[of_group];
    const int64_t row = of_group / outer * count + g;
    expert[i] = g < 0 ? -1 : g * experts_per_group + inner[row * choices + i % choices];
  }
};

struct SplitChoice {
  const int32_t* expert;
  int64_t each;
  int32_t experts_per_group;
  int32_t* group;
  __device__ void operator()(int64_t i) const {
    const int32_t first = expert[i * each];
    group[i] = first < 0 ? -1 : first / experts_per_group;
  }
};

struct LookUpChoice {
  const int32_t *table, *ids;
  const uint8_t* mask;
  int32_t* expert;
  __device__ void operator()(int64_t t) const { expert[t] = is_in(mask, t) ? table[ids[t]] : -1; }
};

}  // namespace

void CudaKernels::join_choices(ExecContext& ctx, TensorView group, TensorView inner,
                               int64_t experts_per_group, TensorView expert) {
  each_index(ctx, expert.elements(),
             JoinChoice{group.data<int32_t>(), inner.data<int32_t>(), group.shape()[1],
                        inner.shape()[1], inner.shape()[0] / group.shape()[0],
                        static_cast<int32_t>(experts_per_group), expert.data<int32_t>()});
}

void CudaKernels::split_choices(ExecContext& ctx, TensorView expert, int64_t experts_per_group,
                                TensorView group) {
  each_index(ctx, group.elements(),
             SplitChoice{expert.data<int32_t>(), expert.shape()[1] / group.shape()[1],
                         static_cast<int32_t>(experts_per_group), group.data<int32_t>()});
}

void CudaKernels::look_up_choices(ExecContext& ctx, TensorView table, TensorView ids,
                                  TensorView mask, TensorView expert) {
  each_index(ctx, ids.elements(),
             LookUpChoice{table.data<int32_t>(), ids.data<int32_t>(), mask_of(mask),
                          expert.data<int32_t>()});
}

}  // namespace switchyard
