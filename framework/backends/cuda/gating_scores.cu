// GatingOps, first half: scores, noise and losses, with their gradients.
#include "backends/cuda/choosing.h"
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/group_columns.h"

namespace switchyard {
namespace cuda {
namespace {

__device__ float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ float softplus_of(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

struct Sigmoid {
  const float* logits;
  float* scores;
  __device__ void operator()(int64_t i) const { scores[i] = sigmoid_of(logits[i]); }
};

struct SigmoidBackward {
  const float *scores, *dscores;
  float* dlogits;
  Write write;
  __device__ void operator()(int64_t i) const {
    put(dlogits[i], dscores[i] * scores[i] * (1.0f - scores[i]), write);
  }
};

struct AddRow {
  const float *x, *row;
  int64_t columns;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[i] + row[i % columns]; }
};

// The sum of a row, or of its products with another one: every lane's.
__device__ float row_sum(const RowTeam& team, const float* x) {
  float sum = 0;
  for (int64_t c = team.lane; c < team.columns; c += team.lanes) sum += x[c];
  return team.sum(sum);
}
__device__ float row_dot(const RowTeam& team, const float* x, const float* y) {
  float sum = 0;
  for (int64_t c = team.lane; c < team.columns; c += team.lanes) sum += x[c] * y[c];
  return team.sum(sum);
}

__global__ void normalize_rows_kernel(const float* x, float factor, int64_t rows, int64_t columns,
                                      int lanes, float* y) {
  const RowTeam team(rows, columns, lanes);
  const float* row = x + team.row * columns;
  const float sum = row_sum(team, row);
  for (int64_t c = team.lane; c < team.columns; c += team.lanes) {
    y[team.row * columns + c] = sum == 0 ? 0.0f : factor * row[c] / sum;
  }
}

__global__ void normalize_rows_backward_kernel(const float* x, float factor, const float* dy,
                                               int64_t rows, int64_t columns, int lanes,
                                               Write write, float* dx) {
  const RowTeam team(rows, columns, lanes);
  const float *row = x + team.row * columns, *drow = dy + team.row * columns;
  const float sum = row_sum(team, row);
  const float mean = row_dot(team, drow, row) / sum;
  for (int64_t c = team.lane; c < team.columns; c += team.lanes) {
    const float slope = sum == 0 ? 0.0f : factor * (drow[c] - mean) / sum;
    put(dx[team.row * columns + c], slope, write);
  }
}

// Cosine and sine of 2 pi word / 2^32 in float64. The library's look after angles of any size.
struct CosSin {
  double cosine, sine;
};
__device__ CosSin cos_sin_of_word(uint32_t word) {
  constexpr double kRadians = 6.283185307179586476925 * 0x1p-32;
  // The angle is quarter * pi/2 + x with |x| <= pi/4, of which eight terms of the series do.
  const uint32_t quarter = (word + 0x20000000u) >> 30;
  const double x = kRadians * static_cast<double>(static_cast<int32_t>(word - (quarter << 30)));
  double cosine = 1, sine = 1;
#pragma unroll
  for (int i = 16; i > 0; i -= 2) {
    cosine = 1 - cosine * (x * x) * (1.0 / (i * (i - 1)));
    sine = 1 - sine * (x * x) * (1.0 / (i * (i + 1)));
  }
  sine *= x;
  const bool swaps = quarter % 2 == 1;
  const CosSin turned{swaps ? sine : cosine, swaps ? cosine : sine};
  return {quarter == 1 || quarter == 2 ? -turned.cosine : turned.cosine,
          quarter >= 2 ? -turned.sine : turned.sine};
}

// random_normal (base/random.h), rounded to float32, of an element of [T, columns].
struct NormalAt {
  RandomKey key;
  const int64_t* token;
  int64_t columns, first_column;

  __device__ float operator()(int64_t i) const {
    const int64_t row = token[i / columns];
    const auto element = static_cast<uint32_t>(first_column + i % columns);
    const PhiloxBits bits = random_block(key, token_of(row), choice_of(row), element / 4);
    const bool second = element % 4 >= 2;
    const uint32_t for_radius = second ? bits.word[2] : bits.word[0];
    const CosSin angle = cos_sin_of_word(second ? bits.word[3] : bits.word[1]);
    const double u = (static_cast<double>(for_radius) + 1.0) * 0x1p-32;  // (0, 1]
    const double radius = sqrt(-2.0 * log(u));
    return static_cast<float>(radius * (element % 2 == 0 ? angle.cosine : angle.sine));
  }
};

NormalAt normal_at(const RandomRows& random, int64_t columns) {
  return {random.key, random.token.data<int64_t>(), columns, random.first_column};
}

struct AddNoise {
  const float *logits, *noise_logits;
  NormalAt normal;
  float* noisy;
  __device__ void operator()(int64_t i) const {
    noisy[i] = logits[i] + normal(i) * softplus_of(noise_logits[i]);
  }
};

struct AddNoiseBackward {
  const float *noise_logits, *dnoisy;
  NormalAt normal;
  float* dnoise_logits;
  Write write;
  __device__ void operator()(int64_t i) const {
    put(dnoise_logits[i], dnoisy[i] * normal(i) * sigmoid_of(noise_logits[i]), write);
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;  // NOLINT: what the operations below are made of

void CudaKernels::sigmoid(ExecContext& ctx, TensorView logits, TensorView scores) {
  each_index(ctx, logits.elements(), Sigmoid{logits.data<float>(), scores.data<float>()});
}

void CudaKernels::sigmoid_backward(ExecContext& ctx, TensorView scores, TensorView dscores,
                                   TensorView dlogits, Write write) {
  each_index(
      ctx, scores.elements(),
      SigmoidBackward{scores.data<float>(), dscores.data<float>(), dlogits.data<float>(), write});
}

void CudaKernels::normalize_rows(ExecContext& ctx, TensorView x, double factor, TensorView y) {
  const int64_t rows = x.shape()[0], columns = x.shape()[1];
  const int lanes = lanes_for(columns);
  gpu_launch(normalize_rows_kernel, row_blocks(rows, lanes), kRowThreads, 0, cuda_stream(ctx),
             x.data<float>(), static_cast<float>(factor), rows, columns, lanes, y.data<float>());
}

void CudaKernels::normalize_rows_backward(ExecContext& ctx, TensorView x, double factor,
                                          TensorView dy, TensorView dx, Write write) {
  const int64_t rows = x.shape()[0], columns = x.shape()[1];
  const int lanes = lanes_for(columns);
  gpu_launch(normalize_rows_backward_kernel, row_blocks(rows, lanes), kRowThreads, 0,
             cuda_stream(ctx), x.data<float>(), static_cast<float>(factor), dy.data<float>(), rows,
             columns, lanes, write, dx.data<float>());
}

void CudaKernels::add_row(ExecContext& ctx, TensorView x, TensorView row, TensorView y) {
  each_index(ctx, x.elements(),
             AddRow{x.data<float>(), row.data<float>(), x.shape()[1], y.data<float>()});
}

void CudaKernels::add_noise(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                            const RandomRows& random, TensorView noisy) {
  each_index(ctx, logits.elements(),
             AddNoise{logits.data<float>(), noise_logits.data<float>(),
                      normal_at(random, logits.shape()[1]), noisy.data<float>()});
}

void CudaKernels::add_noise_backward(ExecContext& ctx, TensorView noise_logits,
                                     const RandomRows& random, TensorView dnoisy,
                                     TensorView dnoise_logits, Write write) {
  each_index(ctx, noise_logits.elements(),
             AddNoiseBackward{noise_logits.data<float>(), dnoisy.data<float>(),
                              normal_at(random, noise_logits.shape()[1]),
                              dnoise_logits.data<float>(), write});
}

namespace {

// Which columns of a row of noisy numbers are the thresholds of its experts: for those among the
// `choices` best the next one, for the others the last of the best.
struct Thresholds {
  uint64_t last, next;  // best_key

  __device__ Thresholds(const RowTeam& team, const float* noisy, int64_t choices)
      : last(0), next(0) {
    const auto key_of = [noisy](int64_t e) { return best_key(noisy[e], e); };
    for (int64_t k = 0; k < choices; ++k) last = next_key(team, k == 0 ? 0 : last + 1, key_of);
    next = next_key(team, last + 1, key_of);
  }
  __device__ bool is_chosen(float noisy, int64_t e) const { return best_key(noisy, e) <= last; }
  __device__ int64_t column(bool chosen) const { return position_of(chosen ? next : last); }
};

// How far an expert is above its threshold.
struct Margin {
  float z, deviation;
};
__device__ Margin margin_of(float logit, float threshold, float noise_logit) {
  constexpr float kSmallest = 0x1p-126f;  // normal number
  const float deviation = fmaxf(softplus_of(noise_logit), kSmallest);
  return {(logit - threshold) / deviation, deviation};
}

struct LoadArguments {
  const float *logits, *noise_logits, *noisy;
  int64_t tokens, experts, choices;
};

__global__ void smooth_load_kernel(LoadArguments in, int lanes, float* load) {
  const RowTeam team(in.tokens, in.experts, lanes);
  const int64_t first = team.row * in.experts;
  const float* noisy = in.noisy + first;
  const bool all = in.choices == in.experts;
  const Thresholds thresholds(team, noisy, all ? 0 : in.choices);
  for (int64_t e = team.lane; e < team.columns; e += team.lanes) {
    float share = 1.0f;
    if (!all) {
      const float threshold = noisy[thresholds.column(thresholds.is_chosen(noisy[e], e))];
      const Margin margin = margin_of(in.logits[first + e], threshold, in.noise_logits[first + e]);
      share = 0.5f * erfcf(-margin.z * 0.70710678118654752440f);
    }
    load[first + e] = share;
  }
}

__global__ void smooth_load_backward_kernel(LoadArguments in, int lanes, const float* dload,
                                            float* dlogits, float* dnoise_logits, float* dnoisy) {
  constexpr float kDensityAtZero = 0.39894228040143267794f;  // 1 / sqrt(2 pi)
  const RowTeam team(in.tokens, in.experts, lanes);
  const int64_t first = team.row * in.experts;
  const float* noisy = in.noisy + first;
  const Thresholds thresholds(team, noisy, in.choices);
  float of_last = 0, of_next = 0;  // sums of what the thresholds pass on
  for (int64_t e = team.lane; e < team.columns; e += team.lanes) {
    const int64_t i = first + e;
    const bool chosen = thresholds.is_chosen(noisy[e], e);
    const Margin margin =
        margin_of(in.logits[i], noisy[thresholds.column(chosen)], in.noise_logits[i]);
    const float density = expf(-0.5f * margin.z * margin.z) * kDensityAtZero;
    if (density == 0) continue;  // z may be infinite
    const float slope = dload[i] * density / margin.deviation;
    dlogits[i] += slope;
    (chosen ? of_next : of_last) += slope;
    dnoise_logits[i] -= slope * margin.z * sigmoid_of(in.noise_logits[i]);
  }
  of_last = team.sum(of_last);
  of_next = team.sum(of_next);
  if (!team.has_row || team.lane != 0) return;
  dnoisy[first + thresholds.column(false)] -= of_last;
  dnoisy[first + thresholds.column(true)] -= of_next;
}

LoadArguments load_arguments(TensorView logits, TensorView noise_logits, TensorView noisy,
                             int64_t choices) {
  return {logits.data<float>(), noise_logits.data<float>(), noisy.data<float>(),
          logits.shape()[0],    logits.shape()[1],          choices};
}

}  // namespace

void CudaKernels::smooth_load(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                              TensorView noisy, int64_t choices, TensorView load) {
  const int lanes = lanes_for(logits.shape()[1]);
  gpu_launch(smooth_load_kernel, row_blocks(logits.shape()[0], lanes), kRowThreads, 0,
             cuda_stream(ctx), load_arguments(logits, noise_logits, noisy, choices), lanes,
             load.data<float>());
}

void CudaKernels::smooth_load_backward(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                                       TensorView noisy, int64_t choices, TensorView dload,
                                       TensorView dlogits, TensorView dnoise_logits,
                                       TensorView dnoisy, Write write) {
  if (write == Write::kOverwrite) {
    for (const TensorView& gradient : {dlogits, dnoise_logits, dnoisy}) {
      fill_bytes(ctx, gradient, 0);
    }
  }
  if (choices == logits.shape()[1]) return;
  const int lanes = lanes_for(logits.shape()[1]);
  gpu_launch(smooth_load_backward_kernel, row_blocks(logits.shape()[0], lanes), kRowThreads, 0,
             cuda_stream(ctx), load_arguments(logits, noise_logits, noisy, choices), lanes,
             dload.data<float>(), dlogits.data<float>(), dnoise_logits.data<float>(),
             dnoisy.data<float>());
}

namespace {

// A block joins a group's sums and takes their moments.
//   sums     [groups, columns]
//   moments  [groups, 2]: mean and variance
__global__ void moments_kernel(const double* partial, GroupPieces groups, int64_t columns,
                               double* sums, double* moments) {
  const int64_t g = blockIdx.x;
  double total = 0, squares = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) {
    const double sum = sum_of_pieces(partial, groups, g, columns, c);
    sums[g * columns + c] = sum;
    total += sum;
  }
  const double mean = block_sum<kRowThreads>(total) / static_cast<double>(columns);
  for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) {
    const double difference = sums[g * columns + c] - mean;
    squares += difference * difference;
  }
  const double variance = block_sum<kRowThreads>(squares) / static_cast<double>(columns);
  if (threadIdx.x != 0) return;
  moments[2 * g] = mean;
  moments[2 * g + 1] = variance;
}

struct GroupMoments {
  GroupPieces groups;
  double *sums, *moments;
};

// The caller holds a ScratchScope.
GroupMoments group_moments(ExecContext& ctx, TensorView values, TensorView mask,
                           LeafOffsets groups) {
  const int64_t columns = values.shape()[1];
  const GroupPieces pieces = to_pieces(ctx, groups);
  const double* partial = sum_pieces(
      ctx, pieces, columns, MaskedValue<float>{values.data<float>(), columns, mask_of(mask)});
  const GroupMoments of_groups{
      pieces, ctx.scratch.allocate(DType::kFloat64, {pieces.count, columns}).data<double>(),
      ctx.scratch.allocate(DType::kFloat64, {pieces.count, 2}).data<double>()};
  gpu_launch(moments_kernel, blocks_for(pieces.count, 1), kRowThreads, 0, cuda_stream(ctx), partial,
             pieces, columns, of_groups.sums, of_groups.moments);
  return of_groups;
}

struct CvSquared {
  const double* moments;
  double* cv;
  __device__ void operator()(int64_t g) const {
    const double mean = moments[2 * g];
    cv[g] = mean == 0 ? 0.0 : moments[2 * g + 1] / (mean * mean);
  }
};

struct CvSquaredGradient {
  GroupMoments of_groups;
  const uint8_t* mask;
  int64_t columns;
  double factor;
  float* dvalues;

  __device__ void operator()(int64_t i) const {
    const int64_t t = i / columns;
    if (!is_in(mask, t)) return;
    const int64_t g = group_of(of_groups.groups, t);
    const double mean = of_groups.moments[2 * g], variance = of_groups.moments[2 * g + 1];
    if (mean == 0) return;
    const double sum = of_groups.sums[g * columns + i % columns];
    const double slope =
        2 / (static_cast<double>(columns) * mean * mean) * (sum - mean - variance / mean);
    dvalues[i] += static_cast<float>(factor * slope);
  }
};

}  // namespace

void CudaKernels::cv_squared(ExecContext& ctx, TensorView values, TensorView mask,
                             LeafOffsets groups, TensorView cv) {
  const ScratchScope scope(ctx.scratch);
  const GroupMoments of_groups = group_moments(ctx, values, mask, groups);
  each_index(ctx, of_groups.groups.count, CvSquared{of_groups.moments, cv.data<double>()});
}

void CudaKernels::cv_squared_gradient(ExecContext& ctx, TensorView values, TensorView mask,
                                      LeafOffsets groups, double factor, TensorView dvalues) {
  const ScratchScope scope(ctx.scratch);
  each_index(ctx, values.elements(),
             CvSquaredGradient{group_moments(ctx, values, mask, groups), mask_of(mask),
                               values.shape()[1], factor, dvalues.data<float>()});
}

namespace {

struct ScaleColumnGroup {
  const float *x, *factor;
  int64_t each;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[i] * factor[i / each]; }
};

// Rows are the groups of columns here.
__global__ void scale_column_groups_backward_kernel(const float* x, const float* factor,
                                                    const float* dy, int64_t rows, int64_t each,
                                                    int lanes, Write write, float* dx,
                                                    float* dfactor) {
  const RowTeam team(rows, each, lanes);
  const float *row = x + team.row * each, *drow = dy + team.row * each;
  const float sum = row_dot(team, drow, row);
  for (int64_t c = team.lane; c < team.columns; c += team.lanes) {
    put(dx[team.row * each + c], drow[c] * factor[team.row], write);
  }
  if (team.has_row && team.lane == 0) put(dfactor[team.row], sum, write);
}

__global__ void sum_rows_kernel(const float* x, int64_t rows, int64_t columns, int lanes,
                                float* sums) {
  const RowTeam team(rows, columns, lanes);
  const float sum = row_sum(team, x + team.row * columns);
  if (team.has_row && team.lane == 0) sums[team.row] = sum;
}

}  // namespace

void CudaKernels::scale_column_groups(ExecContext& ctx, TensorView x, TensorView factor,
                                      TensorView y) {
  each_index(ctx, x.elements(),
             ScaleColumnGroup{x.data<float>(), factor.data<float>(),
                              x.shape()[1] / factor.shape()[1], y.data<float>()});
}

void CudaKernels::scale_column_groups_backward(ExecContext& ctx, TensorView x, TensorView factor,
                                               TensorView dy, TensorView dx, TensorView dfactor,
                                               Write write) {
  const int64_t rows = factor.elements(), each = x.shape()[1] / factor.shape()[1];
  const int lanes = lanes_for(each);
  gpu_launch(scale_column_groups_backward_kernel, row_blocks(rows, lanes), kRowThreads, 0,
             cuda_stream(ctx), x.data<float>(), factor.data<float>(), dy.data<float>(), rows, each,
             lanes, write, dx.data<float>(), dfactor.data<float>());
}

void CudaKernels::sum_column_groups(ExecContext& ctx, TensorView x, TensorView y) {
  const int64_t rows = y.elements(), each = x.shape()[1] / y.shape()[1];
  const int lanes = lanes_for(each);
  gpu_launch(sum_rows_kernel, row_blocks(rows, lanes), kRowThreads, 0, cuda_stream(ctx),
             x.data<float>(), rows, each, lanes, y.data<float>());
}

}  // namespace switchyard
