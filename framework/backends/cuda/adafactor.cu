// Adafactor, for many tensors of one shape at once. Matrices are cut into chunks of rows of a fixed
// size, so that sums have one order. All tensors are float32.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"

namespace switchyard {
namespace {

using cuda::kWarpLanes;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr int64_t kChunkRows = 64;        // of a matrix
constexpr int64_t kChunkElements = 8192;  // of a tensor that is not factored

struct Matrices {
  int64_t count, out, in;
  int64_t chunks;  // of a matrix

  int64_t rows() const { return count * out; }
};

// A moment's next value from the sum of `count` squares.
struct Decay {
  float decay, fresh, epsilon, scale_squared;

  __device__ float next(float moment, double sum, int64_t count) const {
    const double mean = static_cast<double>(scale_squared) * sum / static_cast<double>(count);
    return decay * moment + fresh * (static_cast<float>(mean) + epsilon);
  }
};

// A warp a row. Bytes of an element: 4.
__global__ void __launch_bounds__(kThreads)
    row_moments(const float* gradient, int64_t rows, int64_t columns, Decay decay, float* moments) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpLanes;
  if (row >= rows) return;
  const int lane = threadIdx.x % kWarpLanes;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = lane; i < columns; i += kWarpLanes) {
    const double g = static_cast<double>(gradient[row * columns + i]);
    sum += g * g;
  }
  sum = cuda::warp_sum(sum);
  if (lane == 0) moments[row] = decay.next(moments[row], sum, columns);
}

// A block sums the squares of a chunk's rows for kThreads columns. Bytes of an element: 4.
__global__ void __launch_bounds__(kThreads)
    column_squares(const float* gradient, Matrices matrices, double* sums) {
  const int64_t matrix = blockIdx.x / matrices.chunks, chunk = blockIdx.x % matrices.chunks;
  const int64_t column = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (column >= matrices.in) return;
  const int64_t begin = chunk * kChunkRows, end = min(begin + kChunkRows, matrices.out);
  const float* from = gradient + matrix * matrices.out * matrices.in + column;
  double sum = 0;
#pragma unroll 8
  for (int64_t row = begin; row < end; ++row) {
    const double g = static_cast<double>(from[row * matrices.in]);
    sum += g * g;
  }
  sums[blockIdx.x * matrices.in + column] = sum;
}

// A thread a column, over the chunks of its matrix. Bytes of a chunk's sum: 8.
__global__ void __launch_bounds__(kThreads)
    column_moments(const double* sums, Matrices matrices, Decay decay, float* moments) {
  const int64_t matrix = blockIdx.y;
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= matrices.in) return;
  double sum = 0;
#pragma unroll 4
  for (int64_t chunk = 0; chunk < matrices.chunks; ++chunk) {
    sum += sums[(matrix * matrices.chunks + chunk) * matrices.in + column];
  }
  float& moment = moments[matrix * matrices.in + column];
  moment = decay.next(moment, sum, matrices.out);
}

// A block a matrix: 1 / mean of its row moments. Bytes of a row: 4.
__global__ void __launch_bounds__(kThreads)
    inverse_means(const float* rows, Matrices matrices, double* inverse) {
  const float* mine = rows + blockIdx.x * matrices.out;
  double sum = 0;
#pragma unroll 4
  for (int64_t row = threadIdx.x; row < matrices.out; row += kThreads) {
    sum += static_cast<double>(mine[row]);
  }
  sum = cuda::block_sum<kThreads>(sum);
  if (threadIdx.x == 0) inverse[blockIdx.x] = static_cast<double>(matrices.out) / sum;
}

// What turns a gradient into a direction: gradient_scale / sqrt(row moment / mean) of a row, times
// 1 / sqrt(column moment).
struct Direction {
  const float *rows, *columns;
  const double* inverse_mean;
  float gradient_scale;

  __device__ float of_row(int64_t row, int64_t matrix) const {
    const double share = static_cast<double>(rows[row]) * inverse_mean[matrix];
    return gradient_scale / sqrtf(static_cast<float>(share));
  }
};

// Writes a unit's {sum of u^2, sum of weight^2}.
__device__ void store_sums(double direction_squares, double weight_squares, double* sums) {
  direction_squares = cuda::block_sum<kThreads>(direction_squares);
  weight_squares = cuda::block_sum<kThreads>(weight_squares);
  if (threadIdx.x != 0) return;
  sums[2 * blockIdx.x] = direction_squares;
  sums[2 * blockIdx.x + 1] = weight_squares;
}

// A block a chunk of rows, of which a warp takes every kWarps-th. Bytes of an element: 8.
__global__ void __launch_bounds__(kThreads)
    factored_sums(const float* gradient, const float* weight, Matrices matrices,
                  Direction direction, double* sums) {
  const int64_t matrix = blockIdx.x / matrices.chunks, chunk = blockIdx.x % matrices.chunks;
  const int64_t begin = chunk * kChunkRows, end = min(begin + kChunkRows, matrices.out);
  const int lane = threadIdx.x % kWarpLanes;
  const float* columns = direction.columns + matrix * matrices.in;
  double direction_squares = 0, weight_squares = 0;
  for (int64_t r = begin + threadIdx.x / kWarpLanes; r < end; r += kWarps) {
    const int64_t row = matrix * matrices.out + r;
    const float factor = direction.of_row(row, matrix);
#pragma unroll 4
    for (int64_t i = lane; i < matrices.in; i += kWarpLanes) {
      const float u = gradient[row * matrices.in + i] * factor / sqrtf(columns[i]);
      const auto w = static_cast<double>(weight[row * matrices.in + i]);
      direction_squares += static_cast<double>(u) * static_cast<double>(u);
      weight_squares += w * w;
    }
  }
  store_sums(direction_squares, weight_squares, sums);
}

// A warp a row. Bytes of an element: 12.
__global__ void __launch_bounds__(kThreads)
    factored_step(const float* gradient, Matrices matrices, Direction direction,
                  const double* step_sizes, float decay, float* weight) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpLanes;
  if (row >= matrices.count * matrices.out) return;
  const int64_t matrix = row / matrices.out;
  const float factor = direction.of_row(row, matrix);
  const auto size = static_cast<float>(step_sizes[matrix]);
  const float* columns = direction.columns + matrix * matrices.in;
#pragma unroll 4
  for (int64_t i = threadIdx.x % kWarpLanes; i < matrices.in; i += kWarpLanes) {
    const int64_t at = row * matrices.in + i;
    const float u = gradient[at] * factor / sqrtf(columns[i]);
    weight[at] -= size * u + decay * weight[at];
  }
}

// Not factored: a block a chunk of a tensor's elements. Bytes of an element: 16.
__global__ void __launch_bounds__(kThreads)
    whole_moments(const float* gradient, const float* weight, int64_t elements, int64_t chunks,
                  float gradient_scale, Decay decay, float* moments, double* sums) {
  const int64_t tensor = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
  const int64_t begin = tensor * elements + chunk * kChunkElements;
  const int64_t end = min(begin + kChunkElements, (tensor + 1) * elements);
  double direction_squares = 0, weight_squares = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const float g = gradient[i] * gradient_scale;
    const float moment = decay.decay * moments[i] + decay.fresh * (g * g + decay.epsilon);
    const float u = g / sqrtf(moment);
    const auto w = static_cast<double>(weight[i]);
    moments[i] = moment;
    direction_squares += static_cast<double>(u) * static_cast<double>(u);
    weight_squares += w * w;
  }
  store_sums(direction_squares, weight_squares, sums);
}

// Bytes of an element: 16.
__global__ void __launch_bounds__(kThreads)
    whole_step(const float* gradient, const float* moments, int64_t elements,
               const double* step_sizes, float gradient_scale, float decay, float* weight) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t tensor = blockIdx.y;
  if (i >= elements) return;
  const int64_t at = tensor * elements + i;
  const float u = gradient[at] * gradient_scale / sqrtf(moments[at]);
  weight[at] -= static_cast<float>(step_sizes[tensor]) * u + decay * weight[at];
}

// A block a tensor: the sums of its chunks. Bytes of a chunk: 16.
__global__ void __launch_bounds__(kThreads)
    sum_chunks(const double* of_chunks, int64_t chunks, double* sums) {
  const double* mine = of_chunks + blockIdx.x * chunks * 2;
  double direction_squares = 0, weight_squares = 0;
  for (int64_t chunk = threadIdx.x; chunk < chunks; chunk += kThreads) {
    direction_squares += mine[2 * chunk];
    weight_squares += mine[2 * chunk + 1];
  }
  store_sums(direction_squares, weight_squares, sums);
}

Matrices matrices_of(TensorView gradient) {
  const Shape& shape = gradient.shape();
  return {shape[0], shape[1], shape[2], cuda::ceil_div(shape[1], kChunkRows)};
}

// 1 / mean of every matrix's row moments, in ctx.scratch.
Direction direction_of(ExecContext& ctx, const Matrices& matrices, const AdafactorMoments& moments,
                       double gradient_scale) {
  double* inverse = ctx.scratch.allocate(DType::kFloat64, {matrices.count}).data<double>();
  const float* rows = moments.rows.data<float>();
  gpu_launch(inverse_means, cuda::blocks_for(matrices.count, 1), kThreads, 0,
             cuda::cuda_stream(ctx), rows, matrices, inverse);
  return {rows, moments.columns.data<float>(), inverse, static_cast<float>(gradient_scale)};
}

void factored_moments(ExecContext& ctx, const Matrices& matrices, const float* gradient,
                      const Decay& decay, const AdafactorMoments& moments) {
  const ScratchScope scope(ctx.scratch);
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const int64_t chunks = matrices.count * matrices.chunks;
  double* sums = ctx.scratch.allocate(DType::kFloat64, {chunks, matrices.in}).data<double>();
  gpu_launch(row_moments, cuda::blocks_for(matrices.rows(), kWarps), kThreads, 0, stream, gradient,
             matrices.rows(), matrices.in, decay, moments.rows.data<float>());
  const unsigned column_blocks = cuda::blocks_for(matrices.in, kThreads);
  gpu_launch(column_squares, dim3(cuda::blocks_for(chunks, 1), column_blocks), kThreads, 0, stream,
             gradient, matrices, sums);
  gpu_launch(column_moments, dim3(column_blocks, static_cast<unsigned>(matrices.count)), kThreads,
             0, stream, sums, matrices, decay, moments.columns.data<float>());
}

}  // namespace

void CudaKernels::adafactor_moments(ExecContext& ctx, const AdafactorStep& step, TensorView weight,
                                    TensorView gradient, const AdafactorMoments& moments,
                                    TensorView sums_view) {
  const ScratchScope scope(ctx.scratch);
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const float *g = gradient.data<float>(), *w = weight.data<float>();
  const Decay decay{static_cast<float>(step.decay), static_cast<float>(1 - step.decay),
                    static_cast<float>(step.epsilon),
                    static_cast<float>(step.gradient_scale * step.gradient_scale)};
  const bool factored = !moments.columns.absent();
  const int64_t tensors = weight.shape()[0];
  const int64_t chunks = cuda::ceil_div(weight.shape()[1], factored ? kChunkRows : kChunkElements);
  double* of_chunks = ctx.scratch.allocate(DType::kFloat64, {tensors * chunks, 2}).data<double>();
  const unsigned blocks = cuda::blocks_for(tensors * chunks, 1);
  if (factored) {
    const Matrices matrices = matrices_of(gradient);
    factored_moments(ctx, matrices, g, decay, moments);
    gpu_launch(factored_sums, blocks, kThreads, 0, stream, g, w, matrices,
               direction_of(ctx, matrices, moments, step.gradient_scale), of_chunks);
  } else {
    gpu_launch(whole_moments, blocks, kThreads, 0, stream, g, w, weight.shape()[1], chunks,
               static_cast<float>(step.gradient_scale), decay, moments.rows.data<float>(),
               of_chunks);
  }
  gpu_launch(sum_chunks, cuda::blocks_for(tensors, 1), kThreads, 0, stream, of_chunks, chunks,
             sums_view.data<double>());
}

void CudaKernels::adafactor_update(ExecContext& ctx, double gradient_scale, double decay,
                                   TensorView step_sizes, TensorView weight, TensorView gradient,
                                   const AdafactorMoments& moments) {
  const ScratchScope scope(ctx.scratch);
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const double* sizes = step_sizes.data<double>();
  const auto share = static_cast<float>(decay);
  const float* g = gradient.data<float>();
  float* w = weight.data<float>();
  if (moments.columns.absent()) {
    const int64_t elements = weight.shape()[1];
    const dim3 grid(cuda::blocks_for(elements, kThreads), static_cast<unsigned>(weight.shape()[0]));
    gpu_launch(whole_step, grid, kThreads, 0, stream, g, moments.rows.data<float>(), elements,
               sizes, static_cast<float>(gradient_scale), share, w);
    return;
  }
  const Matrices matrices = matrices_of(gradient);
  gpu_launch(factored_step, cuda::blocks_for(matrices.rows(), kWarps), kThreads, 0, stream, g,
             matrices, direction_of(ctx, matrices, moments, gradient_scale), sizes, share, w);
}

}  // namespace switchyard
