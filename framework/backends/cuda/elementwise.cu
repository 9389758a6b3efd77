// Operations on contiguous elements. Each is bound by memory: its comment counts the bytes that an
// element of type T moves, s = sizeof(T).
#include "backends/cuda/activation_functions.h"
#include "backends/cuda/cuda_kernels.h"
#include "backends/cuda/float_packs.h"

namespace switchyard {
namespace {

using cuda::activate;
using cuda::activation_derivative;
using cuda::fits_packs;
using cuda::kVectorElements;
using cuda::load_floats;
using cuda::store_floats;

// Reads one tensor, writes another: 2 s bytes, between dtypes 6.
template <typename From, typename To>
struct Convert {
  const From* x;
  To* y;

  template <int N>
  struct Loaded {
    float x[N];
  };
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    Loaded<N> in;
    load_floats<N>(x + i, in.x);
    return in;
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    store_floats<N>(y + i, in.x);
  }
};

// 2 s bytes.
template <typename T>
struct Scale {
  const T* x;
  float factor;
  T* y;

  template <int N>
  struct Loaded {
    float x[N];
  };
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    Loaded<N> in;
    load_floats<N>(x + i, in.x);
    return in;
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float result[N];
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = factor * in.x[k];
    store_floats<N>(y + i, result);
  }
};

template <int N>
struct LoadedPair {
  float a[N], b[N];
};
template <int N, typename T>
__device__ LoadedPair<N> load_pair(const T* a, const T* b, int64_t i) {
  LoadedPair<N> in;
  load_floats<N>(a + i, in.a);
  load_floats<N>(b + i, in.b);
  return in;
}

// 3 s bytes.
template <typename T>
struct Add {
  const T *a, *b;
  T* y;

  template <int N>
  using Loaded = LoadedPair<N>;
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    return load_pair<N>(a, b, i);
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float result[N];
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = in.a[k] + in.b[k];
    store_floats<N>(y + i, result);
  }
};

// 3 s bytes.
template <typename T>
struct ActivationBackward {
  Activation activation;
  const T *x, *dy;
  T* dx;

  template <int N>
  using Loaded = LoadedPair<N>;
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    return load_pair<N>(x, dy, i);
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float result[N];
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = in.b[k] * activation_derivative(activation, in.a[k]);
    store_floats<N>(dx + i, result);
  }
};

// 3 s bytes.
template <typename T>
struct GatedActivation {
  Activation activation;
  const T *gate, *up;
  T* y;

  template <int N>
  using Loaded = LoadedPair<N>;
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    return load_pair<N>(gate, up, i);
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float result[N];
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = activate(activation, in.a[k]) * in.b[k];
    store_floats<N>(y + i, result);
  }
};

// 5 s bytes.
template <typename T>
struct GatedActivationBackward {
  Activation activation;
  const T *gate, *up, *dy;
  T *dgate, *dup;

  template <int N>
  struct Loaded {
    float gate[N], up[N], dy[N];
  };
  template <int N>
  __device__ Loaded<N> load(int64_t i) const {
    Loaded<N> in;
    load_floats<N>(gate + i, in.gate);
    load_floats<N>(up + i, in.up);
    load_floats<N>(dy + i, in.dy);
    return in;
  }
  template <int N>
  __device__ void store(int64_t i, const Loaded<N>& in) const {
    float of_gate[N], of_up[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      of_gate[k] = in.dy[k] * in.up[k] * activation_derivative(activation, in.gate[k]);
      of_up[k] = in.dy[k] * activate(activation, in.gate[k]);
    }
    store_floats<N>(dgate + i, of_gate);
    store_floats<N>(dup + i, of_up);
  }
};

// Runs an operation on tensors of one dtype, 16 bytes of each at a time where all are aligned.
template <typename T, typename Operation>
void over_vectors(const ExecContext& ctx, int64_t elements, std::initializer_list<const T*> tensors,
                  const Operation& operation) {
  bool packs = true;
  for (const T* tensor : tensors) packs = packs && fits_packs<kVectorElements<T>>(tensor);
  cuda::over_elements<kVectorElements<T>>(ctx, elements, packs, operation);
}

}  // namespace

void CudaKernels::fill_zero(ExecContext& ctx, TensorView x) {
  // All bits zero is the number 0 in every dtype.
  GPU_CHECK(cudaMemsetAsync(x.raw(), 0, x.size_bytes(), cuda::cuda_stream(ctx)));
}

void CudaKernels::copy(ExecContext& ctx, TensorView x, TensorView y) {
  if (x.dtype() == y.dtype()) {
    GPU_CHECK(cudaMemcpyAsync(y.raw(), x.raw(), x.size_bytes(), cudaMemcpyDeviceToDevice,
                              cuda::cuda_stream(ctx)));
    return;
  }
  cuda::with_type(x.dtype(), [&]<typename From>() {
    cuda::with_type(y.dtype(), [&]<typename To>() {
      const Convert<From, To> convert{x.data<From>(), y.data<To>()};
      constexpr int kElements = 4;  // 16 bytes of float32, 8 of bfloat16
      const bool packs = fits_packs<kElements>(convert.x) && fits_packs<kElements>(convert.y);
      cuda::over_elements<kElements>(ctx, x.elements(), packs, convert);
    });
  });
}

void CudaKernels::add(ExecContext& ctx, TensorView a, TensorView b, TensorView y) {
  cuda::with_type(y.dtype(), [&]<typename T>() {
    const Add<T> add{a.data<T>(), b.data<T>(), y.data<T>()};
    over_vectors<T>(ctx, y.elements(), {add.a, add.b, add.y}, add);
  });
}

void CudaKernels::scale(ExecContext& ctx, TensorView x, double factor, TensorView y) {
  cuda::with_type(y.dtype(), [&]<typename T>() {
    const Scale<T> scale{x.data<T>(), static_cast<float>(factor), y.data<T>()};
    over_vectors<T>(ctx, y.elements(), {scale.x, scale.y}, scale);
  });
}

void CudaKernels::activation_backward(ExecContext& ctx, Activation activation,
                                      TensorView pre_activation, TensorView dy, TensorView dx) {
  cuda::with_type(dx.dtype(), [&]<typename T>() {
    const ActivationBackward<T> backward{activation, pre_activation.data<T>(), dy.data<T>(),
                                         dx.data<T>()};
    over_vectors<T>(ctx, dx.elements(), {backward.x, backward.dy, backward.dx}, backward);
  });
}

void CudaKernels::gated_activation(ExecContext& ctx, Activation activation, TensorView gate,
                                   TensorView up, TensorView y) {
  cuda::with_type(y.dtype(), [&]<typename T>() {
    const GatedActivation<T> gated{activation, gate.data<T>(), up.data<T>(), y.data<T>()};
    over_vectors<T>(ctx, y.elements(), {gated.gate, gated.up, gated.y}, gated);
  });
}

void CudaKernels::gated_activation_backward(ExecContext& ctx, Activation activation,
                                            TensorView gate, TensorView up, TensorView dy,
                                            TensorView dgate, TensorView dup) {
  cuda::with_type(dy.dtype(), [&]<typename T>() {
    const GatedActivationBackward<T> backward{activation,   gate.data<T>(),  up.data<T>(),
                                              dy.data<T>(), dgate.data<T>(), dup.data<T>()};
    over_vectors<T>(ctx, dy.elements(),
                    {backward.gate, backward.up, backward.dy, backward.dgate, backward.dup},
                    backward);
  });
}

}  // namespace switchyard
