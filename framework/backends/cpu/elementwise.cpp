#include <algorithm>
#include <bit>
#include <cstring>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

struct BFloat16 {
  uint16_t bits;
};

template <typename From>
double widened(From x) {
  return static_cast<double>(x);
}
template <>
double widened(BFloat16 x) {
  return std::bit_cast<float>(uint32_t{x.bits} << 16);
}

template <typename To>
To narrowed(double x) {
  return static_cast<To>(x);
}
// To the nearest, ties to even; through float32, as every backend's conversion from float64.
template <>
BFloat16 narrowed(double x) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  if (is_nan) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
}

// Calls body with a value of the element type.
template <typename Body>
void with_element_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float{});
    case DType::kFloat64:
      return body(double{});
    case DType::kBFloat16:
      return body(BFloat16{});
    default:
      SWITCHYARD_CHECK(false, "no conversion of ", name_of(dtype));
  }
}

}  // namespace

void CpuKernels::fill_zero(ExecContext&, TensorView x) {
  char* data = static_cast<char*>(x.raw());
  team_.ranges(static_cast<int64_t>(x.size_bytes()), 1, [&](int64_t begin, int64_t end) {
    std::memset(data + begin, 0, static_cast<size_t>(end - begin));
  });
}

void CpuKernels::copy(ExecContext&, TensorView x, TensorView y) {
  if (x.dtype() == y.dtype()) {
    const char* source = static_cast<const char*>(x.raw());
    char* target = static_cast<char*>(y.raw());
    team_.ranges(static_cast<int64_t>(x.size_bytes()), 1, [&](int64_t begin, int64_t end) {
      std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
    });
    return;
  }
  with_element_type(x.dtype(), [&](auto from) {
    with_element_type(y.dtype(), [&](auto to) {
      const auto* source = static_cast<const decltype(from)*>(x.raw());
      auto* target = static_cast<decltype(to)*>(y.raw());
      team_.ranges(x.elements(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          target[i] = narrowed<decltype(to)>(widened(source[i]));
        }
      });
    });
  });
}

void CpuKernels::add(ExecContext&, TensorView a_view, TensorView b_view, TensorView y_view) {
  const float *a = a_view.data<float>(), *b = b_view.data<float>();
  float* y = y_view.data<float>();
  team_.ranges(y_view.elements(), 1, [&](int64_t begin, int64_t end) {
    loops_.add(end - begin, a + begin, b + begin, y + begin);
  });
}

void CpuKernels::scale(ExecContext&, TensorView x_view, double factor, TensorView y_view) {
  const float* x = x_view.data<float>();
  float* y = y_view.data<float>();
  team_.ranges(y_view.elements(), 1, [&](int64_t begin, int64_t end) {
    loops_.scale(end - begin, x + begin, static_cast<float>(factor), y + begin);
  });
}

void CpuKernels::activation_backward(ExecContext&, Activation activation, TensorView pre_activation,
                                     TensorView dy_view, TensorView dx_view) {
  const float *x = pre_activation.data<float>(), *dy = dy_view.data<float>();
  float* dx = dx_view.data<float>();
  team_.ranges(dx_view.elements(), 2, [&](int64_t begin, int64_t end) {
    loops_.activation_backward(static_cast<int>(activation), end - begin, x + begin, dy + begin,
                               dx + begin);
  });
}

namespace {

int64_t checked_row(int32_t row, int64_t rows, std::string_view what) {
  SWITCHYARD_CHECK(row >= 0 && row < rows, what, " ", row, " of ", rows);
  return row;
}

}  // namespace

void CpuKernels::embedding(ExecContext&, const Weight& table_weight, TensorView ids_view,
                           TensorView y_view) {
  const int64_t entries = table_weight.shape()[0], columns = y_view.shape()[1];
  const float* table = table_weight.master().data<float>();
  const int32_t* ids = ids_view.data<int32_t>();
  float* y = y_view.data<float>();
  team_.ranges(y_view.shape()[0], columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t id = checked_row(ids[t], entries, "id");
      std::memcpy(y + t * columns, table + id * columns,
                  static_cast<size_t>(columns) * sizeof(float));
    }
  });
}

// Shared out by columns: rows are of very unequal frequency, and every element's sum stays in the
// order of tokens.
void CpuKernels::embedding_gradient(ExecContext& ctx, TensorView ids_view, TensorView dy_view,
                                    LeafOffsets, Weight& table) {
  SWITCHYARD_CHECK(ctx.reduction == Reduction::kFast, "ordered reductions on the cpu backend");
  const int64_t entries = table.shape()[0], columns = dy_view.shape()[1];
  const int64_t tokens = dy_view.shape()[0];
  const int32_t* ids = ids_view.data<int32_t>();
  for (int64_t t = 0; t < tokens; ++t) checked_row(ids[t], entries, "id");
  if (table.next_gradient_write() == Write::kOverwrite) fill_zero(ctx, table.gradient());
  const float* dy = dy_view.data<float>();
  float* gradient = table.gradient().data<float>();
  constexpr int64_t kStrip = 16;  // a cache line: threads write to no common one
  team_.ranges((columns + kStrip - 1) / kStrip, kStrip * tokens, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kStrip, width = std::min(columns, end * kStrip) - first;
    for (int64_t t = 0; t < tokens; ++t) {
      float* row = gradient + ids[t] * columns + first;
      loops_.add(width, row, dy + t * columns + first, row);
    }
  });
}

void CpuKernels::distance_bias(ExecContext&, const Weight& table_weight, TensorView bucket,
                               TensorView bias_view) {
  const int64_t heads = bias_view.shape()[0], distances = bias_view.shape()[1];
  const int64_t buckets = table_weight.shape()[0];
  const float* table = table_weight.master().data<float>();
  float* bias = bias_view.data<float>();
  for (int64_t p = 0; p < distances; ++p) {
    const int64_t b = checked_row(bucket.data<int32_t>()[p], buckets, "bucket");
    for (int64_t h = 0; h < heads; ++h) bias[h * distances + p] = table[b * heads + h];
  }
}

void CpuKernels::distance_bias_gradient(ExecContext& ctx, TensorView dbias_view, TensorView bucket,
                                        Weight& table) {
  SWITCHYARD_CHECK(ctx.reduction == Reduction::kFast, "ordered reductions on the cpu backend");
  const Shape& shape = dbias_view.shape();
  const int64_t leaves = shape[0], heads = shape[1], distances = shape[2];
  if (table.next_gradient_write() == Write::kOverwrite) fill_zero(ctx, table.gradient());
  const float* dbias = dbias_view.data<float>();
  float* gradient = table.gradient().data<float>();
  for (int64_t p = 0; p < distances; ++p) {
    const int64_t b = checked_row(bucket.data<int32_t>()[p], table.shape()[0], "bucket");
    for (int64_t h = 0; h < heads; ++h) {
      float sum = 0;
      for (int64_t leaf = 0; leaf < leaves; ++leaf) {
        sum += dbias[(leaf * heads + h) * distances + p];
      }
      gradient[b * heads + h] += sum;
    }
  }
}

}  // namespace switchyard
