#include "backends/cuda/finish_rows.h"

#include "backends/cuda/activation_functions.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
struct RowFinish {
  const T* products;
  int64_t rows, columns;
  Activation activation;
  const int32_t* index;
  const float* scale;
  T* y;
};

// A thread takes `kWidth` elements of a row, by vectors where they are kVectorElements.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) finish_rows_kernel(RowFinish<T> a) {
  const int64_t per_row = a.columns / kWidth;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.rows * per_row;
       i += step) {
    const int64_t row = i / per_row, column = i % per_row * kWidth;
    const int64_t place = a.index == nullptr ? row : a.index[row];
    const float factor = a.scale == nullptr ? 1.0f : a.scale[row];
    const T* from = a.products + row * a.columns + column;
    T* to = a.y + place * a.columns + column;
    const auto finish = [&](T product) {
      return from_float<T>(factor * activate(a.activation, to_float(product)));
    };
    if constexpr (kWidth == 1) {
      *to = finish(*from);
    } else {
      Vector<T> some = load_vector(from);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) some.values[j] = finish(some.values[j]);
      store_vector(to, some);
    }
  }
}

}  // namespace

void finish_rows(ExecContext& ctx, TensorView products, Activation activation, TensorView index,
                 TensorView scale, TensorView y) {
  with_type(products.dtype(), [&]<typename T>() {
    const RowFinish<T> arguments{.products = products.data<T>(),
                                 .rows = products.shape()[0],
                                 .columns = products.shape()[1],
                                 .activation = activation,
                                 .index = index.absent() ? nullptr : index.data<int32_t>(),
                                 .scale = scale.absent() ? nullptr : scale.data<float>(),
                                 .y = y.data<T>()};
    const bool vectors = fits_vectors(arguments.products, arguments.columns) &&
                         fits_vectors<T>(arguments.y, arguments.columns);
    const int width = vectors ? kVectorElements<T> : 1;
    gpu_launch(vectors ? finish_rows_kernel<T, kVectorElements<T>> : finish_rows_kernel<T, 1>,
               striding_blocks(products.elements() / width, kThreads), dim3(kThreads), 0,
               cuda_stream(ctx), arguments);
  });
}

}  // namespace switchyard::cuda
