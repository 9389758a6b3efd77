// Rotary position embedding.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"
#include "backends/cuda/turns.h"
#include "base/reused_memory.h"

namespace switchyard {
namespace {

using cuda::load_floats;
using cuda::store_floats;

constexpr int kThreads = 256;

// A thread an angle. Bytes of an angle: 8.
__global__ void __launch_bounds__(kThreads)
    table_of_angles(const int32_t* position, const float* frequency, int64_t angles, int64_t half,
                    float* table) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= angles) return;
  const int64_t t = i / half, at = i % half;
  const float angle = frequency[at] * static_cast<float>(position[t]);
  const cuda::SinCos of_angle = cuda::sin_cos_of_turns(static_cast<double>(angle) * cuda::kTurn);
  table[2 * t * half + at] = static_cast<float>(of_angle.cos);
  table[(2 * t + 1) * half + at] = static_cast<float>(of_angle.sin);
}

// A thread turns N points of a head, one of each half. Bytes of an element: 2 sizeof(T), and the
// table's, which the heads of a token share.
template <int N, typename T>
__global__ void __launch_bounds__(kThreads)
    rotate_points(const T* x, const float* table, float direction, int64_t packs, uint32_t heads,
                  int64_t half, T* y) {
  const auto packs_of_head = static_cast<uint32_t>(half / N);
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += stride) {
    const auto pack = static_cast<uint32_t>(i);  // a division of 64 bits is slow
    const uint32_t row = pack / packs_of_head, token = row / heads;
    const int64_t point = int64_t{pack % packs_of_head} * N;
    const int64_t at = int64_t{row} * 2 * half + point, angle = int64_t{token} * 2 * half + point;
    float first[N], second[N], cosine[N], sine[N];
    load_floats<N>(x + at, first);
    load_floats<N>(x + at + half, second);
    load_floats<N>(table + angle, cosine);
    load_floats<N>(table + angle + half, sine);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float a = first[k], b = second[k], s = direction * sine[k];
      first[k] = a * cosine[k] - b * s;
      second[k] = b * cosine[k] + a * s;
    }
    store_floats<N>(y + at, first);
    store_floats<N>(y + at + half, second);
  }
}

}  // namespace

void CudaKernels::rotary_table(ExecContext& ctx, TensorView position, double theta,
                               TensorView table) {
  const int64_t rows = table.shape()[0], width = table.shape()[1], half = width / 2;
  const ScratchScope scope(ctx.scratch);
  ReusedVector<float> frequency;
  for (int64_t i = 0; i < half; ++i) frequency.push_back(rotary_frequency(i, width, theta));
  const auto on_device = cuda::to_device<float>(ctx, frequency);
  gpu_launch(table_of_angles, cuda::blocks_for(rows * half, kThreads), kThreads, 0,
             cuda::cuda_stream(ctx), position.data<int32_t>(), on_device.data, rows * half, half,
             table.data<float>());
}

void CudaKernels::rotate(ExecContext& ctx, TensorView x, TensorView table, Rotation rotation,
                         TensorView y) {
  const int64_t heads = x.shape()[1], half = x.shape()[2] / 2;
  const float direction = rotation == Rotation::kForward ? 1.0f : -1.0f;
  constexpr int kPoints = 4;  // 16 bytes of float32, 8 of bfloat16
  cuda::with_type(x.dtype(), [&]<typename T>() {
    const auto launch = [&](auto kernel, int pack) {
      const int64_t packs = x.elements() / 2 / pack;
      SWITCHYARD_CHECK(packs <= std::numeric_limits<uint32_t>::max(), packs, " points to rotate");
      gpu_launch(kernel, cuda::striding_blocks(packs, kThreads), kThreads, 0,
                 cuda::cuda_stream(ctx), x.data<T>(), table.data<float>(), direction, packs,
                 static_cast<uint32_t>(heads), half, y.data<T>());
    };
    const bool packs = cuda::fits_packs<kPoints>(x.data<T>(), half) &&
                       cuda::fits_packs<kPoints>(y.data<T>(), half) &&
                       cuda::fits_packs<kPoints>(table.data<float>(), half);
    packs ? launch(rotate_points<kPoints, T>, kPoints) : launch(rotate_points<1, T>, 1);
  });
}

}  // namespace switchyard
