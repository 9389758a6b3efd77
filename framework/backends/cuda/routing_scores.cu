// RoutingOps, first half: scores, choices, statistics and the gradients of the router's losses.
#include "backends/cuda/choosing.h"
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/group_columns.h"

namespace switchyard {
namespace cuda {
namespace {

// A row's exponentials: exp(x - largest), and their sum, which is every lane's.
struct RowExp {
  float largest, sum;
};
template <int kPiece>
__device__ RowExp row_exp(const RowTeam& team, const float* x) {
  RowExp exps{-kInfinity<float>, 0};
  for (int64_t c = team.lane * kPiece; c < team.columns; c += team.lanes * kPiece) {
    const auto piece = load_piece<kPiece>(x + c);
#pragma unroll
    for (const float value : piece.values) exps.largest = fmaxf(exps.largest, value);
  }
  exps.largest = team.largest(exps.largest);
  for (int64_t c = team.lane * kPiece; c < team.columns; c += team.lanes * kPiece) {
    const auto piece = load_piece<kPiece>(x + c);
#pragma unroll
    for (const float value : piece.values) exps.sum += expf(value - exps.largest);
  }
  exps.sum = team.sum(exps.sum);
  return exps;
}

template <int kPiece>
__global__ void softmax_kernel(const float* logits, int64_t rows, int64_t columns, int lanes,
                               float* probs) {
  const RowTeam team(rows, columns, lanes);
  const float* x = logits + team.row * columns;
  const RowExp exps = row_exp<kPiece>(team, x);
  for (int64_t c = team.lane * kPiece; c < team.columns; c += team.lanes * kPiece) {
    auto piece = load_piece<kPiece>(x + c);
#pragma unroll
    for (float& value : piece.values) value = expf(value - exps.largest) / exps.sum;
    store_piece(probs + team.row * columns + c, piece);
  }
}

template <int kPiece>
__global__ void softmax_backward_kernel(const float* probs, const float* dprobs, int64_t rows,
                                        int64_t columns, int lanes, Write write, float* dlogits) {
  const RowTeam team(rows, columns, lanes);
  const float *p = probs + team.row * columns, *dp = dprobs + team.row * columns;
  float mean = 0;
  for (int64_t c = team.lane * kPiece; c < team.columns; c += team.lanes * kPiece) {
    const auto p_piece = load_piece<kPiece>(p + c), dp_piece = load_piece<kPiece>(dp + c);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) mean += dp_piece.values[i] * p_piece.values[i];
  }
  mean = team.sum(mean);
  float* dx = dlogits + team.row * columns;
  for (int64_t c = team.lane * kPiece; c < team.columns; c += team.lanes * kPiece) {
    const auto p_piece = load_piece<kPiece>(p + c), dp_piece = load_piece<kPiece>(dp + c);
    Piece<float, kPiece> dx_piece{};
    if (write == Write::kAccumulate) dx_piece = load_piece<kPiece>(dx + c);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      dx_piece.values[i] += p_piece.values[i] * (dp_piece.values[i] - mean);
    }
    store_piece(dx + c, dx_piece);
  }
}

__global__ void choose_top_k_kernel(const float* scores, const uint8_t* mask, int64_t tokens,
                                    int64_t experts, int lanes, int64_t choices, int32_t* expert) {
  const RowTeam team(tokens, experts, lanes);
  const float* row = scores + team.row * experts;
  const bool is_out = team.has_row && !is_in(mask, team.row);
  uint64_t floor = 0;
  for (int64_t k = 0; k < choices; ++k) {
    const uint64_t best = next_key(team, floor, [row](int64_t e) { return best_key(row[e], e); });
    if (team.has_row && team.lane == 0) {
      expert[team.row * choices + k] = is_out ? -1 : static_cast<int32_t>(position_of(best));
    }
    floor = best + 1;
  }
}

__global__ void gather_choices_backward_kernel(const int32_t* expert, const float* dweight,
                                               int64_t tokens, int64_t experts, int64_t choices,
                                               float* dprobs) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (t >= tokens) return;
  // One after another: a token may have chosen an expert twice.
  for (int64_t i = t * choices; i < (t + 1) * choices; ++i) {
    if (expert[i] >= 0) dprobs[t * experts + expert[i]] += dweight[i];
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;  // NOLINT: what the operations below are made of

void CudaKernels::softmax(ExecContext& ctx, TensorView logits, TensorView probs) {
  const int64_t rows = logits.shape()[0], columns = logits.shape()[1];
  const float* x = logits.data<float>();
  float* p = probs.data<float>();
  with_pieces<float>(
      columns,
      [&]<int kPiece>() {
        const int lanes = lanes_for(columns / kPiece);
        gpu_launch(softmax_kernel<kPiece>, row_blocks(rows, lanes), kRowThreads, 0,
                   cuda_stream(ctx), x, rows, columns, lanes, p);
      },
      x, p);
}

void CudaKernels::softmax_backward(ExecContext& ctx, TensorView probs, TensorView dprobs,
                                   TensorView dlogits, Write write) {
  const int64_t rows = probs.shape()[0], columns = probs.shape()[1];
  const float *p = probs.data<float>(), *dp = dprobs.data<float>();
  float* dx = dlogits.data<float>();
  with_pieces<float>(
      columns,
      [&]<int kPiece>() {
        const int lanes = lanes_for(columns / kPiece);
        gpu_launch(softmax_backward_kernel<kPiece>, row_blocks(rows, lanes), kRowThreads, 0,
                   cuda_stream(ctx), p, dp, rows, columns, lanes, write, dx);
      },
      p, dp, dx);
}

void CudaKernels::choose_top_k(ExecContext& ctx, TensorView scores, TensorView mask,
                               TensorView expert) {
  const int64_t tokens = scores.shape()[0], experts = scores.shape()[1];
  const int lanes = lanes_for(experts);
  gpu_launch(choose_top_k_kernel, row_blocks(tokens, lanes), kRowThreads, 0, cuda_stream(ctx),
             scores.data<float>(), mask_of(mask), tokens, experts, lanes, expert.shape()[1],
             expert.data<int32_t>());
}

namespace {

struct MaskChoice {
  const int32_t* expert;
  const uint8_t* mask;
  int64_t choices;
  int32_t* masked;
  __device__ void operator()(int64_t i) const {
    masked[i] = mask[i / choices] != 0 ? expert[i] : -1;
  }
};

struct GatherChoice {
  const float* probs;
  const int32_t* expert;
  int64_t experts, choices;
  float* weight;
  __device__ void operator()(int64_t i) const {
    weight[i] = expert[i] < 0 ? 0.0f : probs[i / choices * experts + expert[i]];
  }
};

}  // namespace

void CudaKernels::mask_choices(ExecContext& ctx, TensorView expert, TensorView mask,
                               TensorView masked) {
  each_index(ctx, expert.elements(),
             MaskChoice{expert.data<int32_t>(), mask.data<uint8_t>(), expert.shape()[1],
                        masked.data<int32_t>()});
}

void CudaKernels::gather_choices(ExecContext& ctx, TensorView probs, TensorView expert,
                                 TensorView weight) {
  each_index(ctx, expert.elements(),
             GatherChoice{probs.data<float>(), expert.data<int32_t>(), probs.shape()[1],
                          expert.shape()[1], weight.data<float>()});
}

void CudaKernels::gather_choices_backward(ExecContext& ctx, TensorView expert, TensorView dweight,
                                          TensorView dprobs) {
  const int64_t tokens = expert.shape()[0];
  gpu_launch(gather_choices_backward_kernel, blocks_for(tokens, kRowThreads), kRowThreads, 0,
             cuda_stream(ctx), expert.data<int32_t>(), dweight.data<float>(), tokens,
             dprobs.shape()[1], expert.shape()[1], dprobs.data<float>());
}

namespace {

// What a token adds to its group's means, as columns to be summed.
constexpr int64_t kTokenSums = 3;  // lse^2, entropy, largest probability

__global__ void token_statistics_kernel(const float* logits, const float* probs, int64_t tokens,
                                        int64_t experts, int lanes, double* of_token) {
  const RowTeam team(tokens, experts, lanes);
  double lse = 0, entropy = 0;
  if (logits != nullptr) {
    const RowExp exps = row_exp<1>(team, logits + team.row * experts);
    lse = static_cast<double>(exps.largest + logf(exps.sum));
  }
  float top = 0;
  for (int64_t e = team.lane; e < team.columns; e += team.lanes) {
    const float p = probs[team.row * experts + e];
    if (p > 0) entropy -= static_cast<double>(p) * static_cast<double>(logf(p));
    top = fmaxf(top, p);
  }
  entropy = team.sum(entropy);
  top = team.largest(top);
  if (!team.has_row || team.lane != 0) return;
  double* sums = of_token + team.row * kTokenSums;
  sums[0] = lse * lse;
  sums[1] = entropy;
  sums[2] = static_cast<double>(top);
}

// Counts of a group's real tokens and of their choices, added to what stands there. Experts are
// counted in windows, so that any number of them fits into shared memory.
constexpr int kCountWindow = 4096;

__global__ void count_real_choices_kernel(const int32_t* expert, const uint8_t* real,
                                          GroupPieces groups, int64_t choices, int64_t experts,
                                          int64_t* tokens, int64_t* chosen) {
  GPU_SHARED(int, counts, kCountWindow);
  const PieceThread thread(groups, kWarpLanes);
  if (thread.begin >= thread.end) return;  // the whole block
  const int64_t first = thread.begin * choices, end = thread.end * choices;
  for (int64_t window = 0; window < experts; window += kCountWindow) {
    const int64_t size = experts - window < kCountWindow ? experts - window : kCountWindow;
    for (int64_t e = threadIdx.x; e < size; e += kRowThreads) counts[e] = 0;
    __syncthreads();
    for (int64_t i = first + threadIdx.x; i < end; i += kRowThreads) {
      const int64_t e = expert[i] - window;
      if (e >= 0 && e < size && is_in(real, i / choices)) atomicAdd(&counts[e], 1);
    }
    __syncthreads();
    for (int64_t e = threadIdx.x; e < size; e += kRowThreads) {
      if (counts[e] == 0) continue;
      atomicAdd(reinterpret_cast<unsigned long long*>(chosen + thread.group * experts + window + e),
                static_cast<unsigned long long>(counts[e]));
    }
    __syncthreads();
  }
  if (tokens == nullptr) return;
  int own = 0;
  for (int64_t t = thread.begin + threadIdx.x; t < thread.end; t += kRowThreads) {
    own += is_in(real, t);
  }
  const int count = block_sum<kRowThreads>(own);
  if (threadIdx.x == 0 && count > 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(tokens + thread.group),
              static_cast<unsigned long long>(count));
  }
}

// A mean of one group: of an expert's probability, or of one of the tokens' sums.
struct StatisticsMean {
  const double *probabilities, *of_tokens;  // sums of pieces
  GroupPieces groups;
  int64_t experts;
  const int64_t* tokens;
  double *mean_probability, *mean_square_lse, *entropy, *top_probability;

  __device__ void operator()(int64_t i) const {
    const int64_t columns = experts + kTokenSums;
    const int64_t g = i / columns, column = i % columns;
    const double count = static_cast<double>(tokens[g] > 0 ? tokens[g] : 1);
    if (column < experts) {
      mean_probability[g * experts + column] =
          sum_of_pieces(probabilities, groups, g, experts, column) / count;
      return;
    }
    const int64_t which = column - experts;
    double* means = which == 0 ? mean_square_lse : which == 1 ? entropy : top_probability;
    means[g] = sum_of_pieces(of_tokens, groups, g, kTokenSums, which) / count;
  }
};

}  // namespace

void CudaKernels::count_choices(ExecContext& ctx, TensorView kept, LeafOffsets groups,
                                TensorView counts) {
  fill_bytes(ctx, counts, 0);
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, groups);
  gpu_launch(count_real_choices_kernel, blocks_for(pieces.count * pieces.pieces, 1), kRowThreads, 0,
             cuda_stream(ctx), kept.data<int32_t>(), nullptr, pieces, kept.shape()[1],
             counts.shape()[1], nullptr, counts.data<int64_t>());
}

void CudaKernels::routing_statistics(ExecContext& ctx, TensorView logits, TensorView probs,
                                     TensorView expert, TensorView real, LeafOffsets groups,
                                     const RoutingStatistics& statistics) {
  const int64_t tokens = probs.shape()[0], experts = probs.shape()[1];
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, groups);
  double* of_token = ctx.scratch.allocate(DType::kFloat64, {tokens, kTokenSums}).data<double>();
  const int lanes = lanes_for(experts);
  gpu_launch(token_statistics_kernel, row_blocks(tokens, lanes), kRowThreads, 0, cuda_stream(ctx),
             logits.absent() ? nullptr : logits.data<float>(), probs.data<float>(), tokens, experts,
             lanes, of_token);
  fill_bytes(ctx, statistics.tokens, 0);
  fill_bytes(ctx, statistics.chosen, 0);
  gpu_launch(count_real_choices_kernel, blocks_for(pieces.count * pieces.pieces, 1), kRowThreads, 0,
             cuda_stream(ctx), expert.data<int32_t>(), mask_of(real), pieces, expert.shape()[1],
             experts, statistics.tokens.data<int64_t>(), statistics.chosen.data<int64_t>());
  const double* probabilities = sum_pieces(
      ctx, pieces, experts, MaskedValue<float>{probs.data<float>(), experts, mask_of(real)});
  const double* token_sums =
      sum_pieces(ctx, pieces, kTokenSums, MaskedValue<double>{of_token, kTokenSums, mask_of(real)});
  each_index(
      ctx, pieces.count * (experts + kTokenSums),
      StatisticsMean{probabilities, token_sums, pieces, experts, statistics.tokens.data<int64_t>(),
                     statistics.mean_probability.data<double>(),
                     statistics.mean_square_lse.data<double>(), statistics.entropy.data<double>(),
                     statistics.top_probability.data<double>()});
}

namespace {

// The addend of the load-balancing loss, the same for every real token of a group.
struct BalanceAddend {
  const int64_t *chosen, *tokens;
  int64_t experts, group_experts, choices;
  double factor;
  float* addend;

  __device__ void operator()(int64_t i) const {
    const int64_t g = i / experts, e = i % experts;
    const int64_t* of_group = chosen + g * experts + e / group_experts * group_experts;
    int64_t asked = 0;
    for (int64_t j = 0; j < group_experts; ++j) asked += of_group[j];
    const double count = static_cast<double>(tokens[g] > 0 ? tokens[g] : 1);
    const double share = static_cast<double>(asked) / (static_cast<double>(choices) * count);
    addend[i] = static_cast<float>(factor * share / count);
  }
};

__global__ void add_group_rows_kernel(const float* addend, const uint8_t* real, GroupPieces groups,
                                      int64_t tokens, int64_t columns, int lanes, float* values) {
  const RowTeam team(tokens, columns, lanes);
  if (!team.has_row || !is_in(real, team.row)) return;
  const float* of_group = addend + group_of(groups, team.row) * columns;
  float* row = values + team.row * columns;
  for (int64_t c = team.lane; c < columns; c += team.lanes) row[c] += of_group[c];
}

template <int kPiece>
__global__ void router_z_gradient_kernel(const float* logits, const uint8_t* real,
                                         GroupPieces groups, const int64_t* tokens_of_group,
                                         double factor, int64_t tokens, int64_t columns, int lanes,
                                         float* dlogits) {
  const RowTeam team(tokens, columns, lanes);
  const float* x = logits + team.row * columns;
  const RowExp exps = row_exp<kPiece>(team, x);
  if (!team.has_row || !is_in(real, team.row)) return;
  const float lse = exps.largest + logf(exps.sum);
  const double count = static_cast<double>(tokens_of_group[group_of(groups, team.row)]);
  const float slope = static_cast<float>(factor * 2 / count) * lse;
  float* dx = dlogits + team.row * columns;
  for (int64_t c = team.lane * kPiece; c < columns; c += team.lanes * kPiece) {
    const auto piece = load_piece<kPiece>(x + c);
    auto dx_piece = load_piece<kPiece>(dx + c);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) dx_piece.values[i] += slope * expf(piece.values[i] - lse);
    store_piece(dx + c, dx_piece);
  }
}

}  // namespace

void CudaKernels::load_balance_gradient(ExecContext& ctx, TensorView real, LeafOffsets groups,
                                        const RoutingStatistics& statistics, int64_t choices,
                                        int64_t group_experts, double factor, TensorView dprobs) {
  const int64_t tokens = dprobs.shape()[0], experts = dprobs.shape()[1];
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, groups);
  float* addend = ctx.scratch.allocate(DType::kFloat32, {pieces.count, experts}).data<float>();
  each_index(ctx, pieces.count * experts,
             BalanceAddend{statistics.chosen.data<int64_t>(), statistics.tokens.data<int64_t>(),
                           experts, group_experts, choices, factor, addend});
  const int lanes = lanes_for(experts);
  gpu_launch(add_group_rows_kernel, row_blocks(tokens, lanes), kRowThreads, 0, cuda_stream(ctx),
             addend, mask_of(real), pieces, tokens, experts, lanes, dprobs.data<float>());
}

void CudaKernels::router_z_gradient(ExecContext& ctx, TensorView logits, TensorView real,
                                    LeafOffsets groups, const RoutingStatistics& statistics,
                                    double factor, TensorView dlogits) {
  const int64_t tokens = logits.shape()[0], columns = logits.shape()[1];
  const ScratchScope scope(ctx.scratch);
  const GroupPieces pieces = to_pieces(ctx, groups);
  const float* x = logits.data<float>();
  float* dx = dlogits.data<float>();
  with_pieces<float>(
      columns,
      [&]<int kPiece>() {
        const int lanes = lanes_for(columns / kPiece);
        gpu_launch(router_z_gradient_kernel<kPiece>, row_blocks(tokens, lanes), kRowThreads, 0,
                   cuda_stream(ctx), x, mask_of(real), pieces, statistics.tokens.data<int64_t>(),
                   factor, tokens, columns, lanes, dx);
      },
      x, dx);
}

}  // namespace switchyard
