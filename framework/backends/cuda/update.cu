// What an optimizer does to a weight in one pass over it, and the sums of gradient norms. All
// tensors are float32.
#include <cmath>

#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"

namespace switchyard {
namespace {

using cuda::fits_packs;
using cuda::load_floats;
using cuda::store_floats;

constexpr int kThreads = 256;
constexpr int kVector = 4;  // floats in 16 bytes

// Elements of a block's sum: fixed, so that the sum is the same on every device.
constexpr int64_t kPart = 8192;

// Bytes of an element: 4.
template <int N>
__global__ void __launch_bounds__(kThreads)
    sum_squares_of_parts(const float* x, int64_t elements, double* sums) {
  const int64_t begin = blockIdx.x * kPart, end = min(begin + kPart, elements);
  double sum = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x * kVector; i < end; i += kThreads * kVector) {
    float values[kVector] = {};
    if (N == kVector && i + kVector <= end) {
      load_floats<kVector>(x + i, values);
    } else {
#pragma unroll
      for (int k = 0; k < kVector; ++k) values[k] = i + k < end ? x[i + k] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      sum += static_cast<double>(values[k]) * static_cast<double>(values[k]);
    }
  }
  sum = cuda::block_sum<kThreads>(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One block. Bytes of a part: 8.
__global__ void __launch_bounds__(kThreads)
    sum_parts(const double* sums, int64_t parts, double* total) {
  double sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < parts; i += kThreads) sum += sums[i];
  sum = cuda::block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *total = sum;
}

__device__ float gradient_of(int64_t sum) {
  constexpr double kUnit = 1.0 / static_cast<double>(1LL << kOrderedFractionBits);
  return static_cast<float>(static_cast<double>(sum) * kUnit);
}

constexpr int kFirst = 4096;  // gradients that stand on sums which one block reads before it writes
constexpr int kFirstThreads = 1024;

// gradient[i] stands where half of sums[i / 2] stands. Bytes of an element: 12.
__global__ void __launch_bounds__(kFirstThreads)
    first_gradients_of_sums(const int64_t* sums, int64_t elements, float* gradient) {
  float results[kFirst / kFirstThreads];
#pragma unroll
  for (int k = 0; k < kFirst / kFirstThreads; ++k) {
    const int64_t i = k * kFirstThreads + threadIdx.x;
    results[k] = i < elements ? gradient_of(sums[i]) : 0.0f;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kFirst / kFirstThreads; ++k) {
    const int64_t i = k * kFirstThreads + threadIdx.x;
    if (i < elements) gradient[i] = results[k];
  }
}
__global__ void __launch_bounds__(kThreads)
    gradients_of_sums(const int64_t* sums, int64_t begin, int64_t end, float* gradient) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = begin + int64_t{blockIdx.x} * kThreads + threadIdx.x; i < end; i += stride) {
    gradient[i] = gradient_of(sums[i]);
  }
}

// Bytes of an element: 28.
struct AdamW {
  float beta1, beta2, rest1, rest2, epsilon, rate, decay, gradient_scale;
  float correction1, correction2;
  const float* gradient;
  float *weight, *first, *second;

  template <int N>
  struct Loaded {
    float w[N], g[N], m[N], v[N];
  };
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    Loaded<N> in;
    load_floats<N>(weight + i, in.w);
    load_floats<N>(gradient + i, in.g);
    load_floats<N>(first + i, in.m);
    load_floats<N>(second + i, in.v);
    return in;
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float w[N], m[N], v[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float g = in.g[k] * gradient_scale;
      m[k] = beta1 * in.m[k] + rest1 * g;
      v[k] = beta2 * in.v[k] + rest2 * g * g;
      const float direction = m[k] * correction1 / (sqrtf(v[k] * correction2) + epsilon);
      w[k] = in.w[k] - rate * (direction + decay * in.w[k]);
    }
    store_floats<N>(weight + i, w);
    store_floats<N>(first + i, m);
    store_floats<N>(second + i, v);
  }
};

// Bytes of an element: 20, without velocity 12.
struct Sgd {
  float rate, decay, momentum, gradient_scale;
  bool nesterov;
  const float* gradient;
  float *weight, *velocity;  // velocity null: there is none

  template <int N>
  struct Loaded {
    float w[N], g[N], v[N];
  };
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    Loaded<N> in = {};
    load_floats<N>(weight + i, in.w);
    load_floats<N>(gradient + i, in.g);
    if (velocity != nullptr) load_floats<N>(velocity + i, in.v);
    return in;
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float w[N], v[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float g = in.g[k] * gradient_scale;
      v[k] = momentum * in.v[k] + g;
      const float direction = nesterov ? g + momentum * v[k] : v[k];
      w[k] = in.w[k] - rate * (direction + decay * in.w[k]);
    }
    store_floats<N>(weight + i, w);
    if (velocity != nullptr) store_floats<N>(velocity + i, v);
  }
};

}  // namespace

void CudaKernels::sum_of_squares(ExecContext& ctx, TensorView x_view, TensorView sum) {
  const int64_t elements = x_view.elements(), parts = cuda::ceil_div(elements, kPart);
  const ScratchScope scope(ctx.scratch);
  const float* x = x_view.data<float>();
  double* sums = ctx.scratch.allocate(DType::kFloat64, {parts}).data<double>();
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  const auto kernel =
      fits_packs<kVector>(x) ? sum_squares_of_parts<kVector> : sum_squares_of_parts<1>;
  gpu_launch(kernel, cuda::blocks_for(parts, 1), kThreads, 0, stream, x, elements, sums);
  gpu_launch(sum_parts, 1, kThreads, 0, stream, sums, parts, sum.data<double>());
}

// A launch for each doubling: gradients [n, 2 n) stand where the sums [n / 2, n) stood, which an
// earlier one has read.
void CudaKernels::gradient_of_sums(ExecContext& ctx, Weight& weight) {
  const int64_t* sums = weight.ordered_sums().data<int64_t>();
  float* gradient = weight.gradient().data<float>();
  const int64_t elements = weight.shape().elements();
  const cudaStream_t stream = cuda::cuda_stream(ctx);
  gpu_launch(first_gradients_of_sums, 1, kFirstThreads, 0, stream, sums, elements, gradient);
  for (int64_t begin = kFirst; begin < elements; begin *= 2) {
    const int64_t end = std::min(2 * begin, elements);
    gpu_launch(gradients_of_sums, cuda::striding_blocks(end - begin, kThreads), kThreads, 0, stream,
               sums, begin, end, gradient);
  }
}

void CudaKernels::adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight,
                        TensorView gradient, TensorView first, TensorView second) {
  const double count = static_cast<double>(step.step);
  const AdamW update{
      .beta1 = static_cast<float>(step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .rest1 = static_cast<float>(1 - step.beta1),
      .rest2 = static_cast<float>(1 - step.beta2),
      .epsilon = static_cast<float>(step.epsilon),
      .rate = static_cast<float>(step.learning_rate),
      .decay = static_cast<float>(step.weight_decay),
      .gradient_scale = static_cast<float>(step.gradient_scale),
      .correction1 = static_cast<float>(1 / (1 - std::pow(step.beta1, count))),
      .correction2 = static_cast<float>(1 / (1 - std::pow(step.beta2, count))),
      .gradient = gradient.data<float>(),
      .weight = weight.data<float>(),
      .first = first.data<float>(),
      .second = second.data<float>(),
  };
  const bool packs = fits_packs<kVector>(update.weight) && fits_packs<kVector>(update.gradient) &&
                     fits_packs<kVector>(update.first) && fits_packs<kVector>(update.second);
  cuda::over_elements<kVector>(ctx, weight.elements(), packs, update);
}

void CudaKernels::sgd(ExecContext& ctx, const SgdStep& step, TensorView weight, TensorView gradient,
                      TensorView velocity) {
  const Sgd update{
      .rate = static_cast<float>(step.learning_rate),
      .decay = static_cast<float>(step.weight_decay),
      .momentum = static_cast<float>(step.momentum),
      .gradient_scale = static_cast<float>(step.gradient_scale),
      .nesterov = step.nesterov && !velocity.absent(),
      .gradient = gradient.data<float>(),
      .weight = weight.data<float>(),
      .velocity = velocity.absent() ? nullptr : velocity.data<float>(),
  };
  const bool packs = fits_packs<kVector>(update.weight) && fits_packs<kVector>(update.gradient) &&
                     fits_packs<kVector>(update.velocity);
  cuda::over_elements<kVector>(ctx, weight.elements(), packs, update);
}

}  // namespace switchyard
