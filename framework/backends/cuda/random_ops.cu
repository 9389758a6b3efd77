// Operations with random numbers. A Philox block is the words of four columns: where a row's first
// column is a multiple of four, a thread draws one block for four elements.
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"

namespace switchyard {
namespace {

using cuda::load_floats;
using cuda::store_floats;

constexpr int kThreads = 256;
constexpr int kBlockColumns = 4;  // of a Philox block: 16 bytes of float32, 8 of bfloat16

// The uniform numbers of N columns of a row, from `column` of the key's on.
template <int N>
__device__ void draw(const RandomKey& key, int64_t row, int64_t column, float (&uniform)[N]) {
  const auto element = static_cast<uint32_t>(column);
  const PhiloxBits bits = random_block(key, token_of(row), choice_of(row), element / kBlockColumns);
  if constexpr (N == kBlockColumns) {
#pragma unroll
    for (int k = 0; k < N; ++k) uniform[k] = uniform_from_word(bits.word[k]);
  } else {
    // Chosen without an index: registers have none.
    const uint32_t place = element % kBlockColumns;
    const uint32_t low = place & 1 ? bits.word[1] : bits.word[0];
    const uint32_t high = place & 1 ? bits.word[3] : bits.word[2];
    uniform[0] = uniform_from_word(place & 2 ? high : low);
  }
}

// Bytes of an element: 2 sizeof(T).
struct Dropout {
  float rate, factor;
  __device__ float operator()(float x, float uniform) const {
    return uniform < rate ? 0.0f : x * factor;
  }
};
// Bytes of an element: 2 sizeof(T).
struct Jitter {
  float epsilon;
  __device__ float operator()(float x, float uniform) const {
    return x * (1.0f + epsilon * (2.0f * uniform - 1.0f));
  }
};

// y = change(x, uniform) for rows of `columns` elements; without x the uniform numbers themselves
// (4 bytes of an element).
template <int N, typename T, typename Change>
__global__ void __launch_bounds__(kThreads)
    change_randomly(const T* x, RandomKey key, const int64_t* token, int64_t first_column,
                    int64_t packs, int64_t columns, Change change, T* y) {
  const auto packs_of_row = static_cast<uint32_t>(columns / N);
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += stride) {
    const auto pack = static_cast<uint32_t>(i);  // a division of 64 bits is slow
    const int64_t row = pack / packs_of_row, column = int64_t{pack % packs_of_row} * N;
    float uniform[N], values[N] = {};
    if (x != nullptr) load_floats<N>(x + i * N, values);
    draw<N>(key, token[row], first_column + column, uniform);
#pragma unroll
    for (int k = 0; k < N; ++k) values[k] = change(values[k], uniform[k]);
    store_floats<N>(y + i * N, values);
  }
}

struct Draw {
  __device__ float operator()(float, float uniform) const { return uniform; }
};

// On the rows of y; x may be null.
template <typename T, typename Change>
void over_rows(const ExecContext& ctx, const T* x, const RandomRows& random, Change change,
               TensorView y) {
  const int64_t elements = y.elements(), columns = y.shape()[1];
  const auto launch = [&](auto kernel, int pack) {
    const int64_t packs = elements / pack;
    SWITCHYARD_CHECK(packs <= std::numeric_limits<uint32_t>::max(), elements, " random numbers");
    gpu_launch(kernel, cuda::striding_blocks(packs, kThreads), kThreads, 0, cuda::cuda_stream(ctx),
               x, random.key, random.token.data<int64_t>(), random.first_column, packs, columns,
               change, y.data<T>());
  };
  const bool packs = random.first_column % kBlockColumns == 0 &&
                     cuda::fits_packs<kBlockColumns>(x, columns) &&
                     cuda::fits_packs<kBlockColumns>(y.data<T>(), columns);
  packs ? launch(change_randomly<kBlockColumns, T, Change>, kBlockColumns)
        : launch(change_randomly<1, T, Change>, 1);
}

}  // namespace

void CudaKernels::dropout(ExecContext& ctx, TensorView x, double rate, const RandomRows& random,
                          TensorView y) {
  const Dropout dropout{static_cast<float>(rate), static_cast<float>(1.0 / (1.0 - rate))};
  cuda::with_type(x.dtype(),
                  [&]<typename T>() { over_rows(ctx, x.data<T>(), random, dropout, y); });
}

void CudaKernels::jitter(ExecContext& ctx, TensorView x, double epsilon, const RandomRows& random,
                         TensorView y) {
  const Jitter jitter{static_cast<float>(epsilon)};
  cuda::with_type(x.dtype(), [&]<typename T>() { over_rows(ctx, x.data<T>(), random, jitter, y); });
}

void CudaKernels::uniform(ExecContext& ctx, const RandomRows& random, TensorView y) {
  over_rows(ctx, static_cast<const float*>(nullptr), random, Draw{}, y);
}

}  // namespace switchyard
