#include <algorithm>
#include <cstring>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

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
  } else if (x.dtype() == DType::kBFloat16 && y.dtype() == DType::kFloat32) {
    team_.ranges(x.elements(), 1, [&](int64_t begin, int64_t end) {
      loops_.widen(end - begin, cpu::bits_of(x.data<BFloat16>() + begin), y.data<float>() + begin);
    });
  } else if (x.dtype() == DType::kFloat32 && y.dtype() == DType::kBFloat16) {
    team_.ranges(x.elements(), 1, [&](int64_t begin, int64_t end) {
      loops_.narrow(end - begin, x.data<float>() + begin, cpu::bits_of(y.data<BFloat16>() + begin));
    });
  } else {
    with_element_type(x.dtype(), [&](auto from) {
      with_element_type(y.dtype(), [&](auto to) {
        const auto* source = x.data<decltype(from)>();
        auto* target = y.data<decltype(to)>();
        team_.ranges(x.elements(), 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) target[i] = static_cast<decltype(to)>(source[i]);
        });
      });
    });
  }
}

void CpuKernels::add(ExecContext&, TensorView a_view, TensorView b_view, TensorView y_view) {
  cpu::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *a = a_view.data<T>(), *b = b_view.data<T>();
    T* y = y_view.data<T>();
    team_.ranges(y_view.elements(), 1, [&](int64_t begin, int64_t end) {
      float left[cpu::kStrip], right[cpu::kStrip];
      cpu::over_strips<T>(begin, end, [&](int64_t i, int64_t n) {
        float* sum = cpu::target(y + i, left);
        loops_.add(n, cpu::load(loops_, n, a + i, left), cpu::load(loops_, n, b + i, right), sum);
        cpu::store(loops_, n, sum, y + i);
      });
    });
  });
}

void CpuKernels::scale(ExecContext&, TensorView x_view, double factor, TensorView y_view) {
  cpu::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = x_view.data<T>();
    T* y = y_view.data<T>();
    team_.ranges(y_view.elements(), 1, [&](int64_t begin, int64_t end) {
      float strip[cpu::kStrip];
      cpu::over_strips<T>(begin, end, [&](int64_t i, int64_t n) {
        float* scaled = cpu::target(y + i, strip);
        loops_.scale(n, cpu::load(loops_, n, x + i, strip), static_cast<float>(factor), scaled);
        cpu::store(loops_, n, scaled, y + i);
      });
    });
  });
}

void CpuKernels::activation_backward(ExecContext&, Activation activation, TensorView pre_activation,
                                     TensorView dy_view, TensorView dx_view) {
  cpu::with_activation(dx_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *x = pre_activation.data<T>(), *dy = dy_view.data<T>();
    T* dx = dx_view.data<T>();
    team_.ranges(dx_view.elements(), 2, [&](int64_t begin, int64_t end) {
      float x_strip[cpu::kStrip], dy_strip[cpu::kStrip];
      cpu::over_strips<T>(begin, end, [&](int64_t i, int64_t n) {
        float* slope = cpu::target(dx + i, dy_strip);
        loops_.activation_backward(static_cast<int>(activation), n,
                                   cpu::load(loops_, n, x + i, x_strip),
                                   cpu::load(loops_, n, dy + i, dy_strip), slope);
        cpu::store(loops_, n, slope, dx + i);
      });
    });
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
  cpu::with_activation(y_view.dtype(), [&](auto zero) {
    auto* y = y_view.data<decltype(zero)>();
    team_.ranges(y_view.shape()[0], columns, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t id = checked_row(ids[t], entries, "id");
        cpu::store(loops_, columns, table + id * columns, y + t * columns);
      }
    });
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
  float* gradient = table.gradient().data<float>();
  constexpr int64_t kLine = 16;  // a cache line: threads write to no common one
  cpu::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* dy = dy_view.data<T>();
    team_.ranges((columns + kLine - 1) / kLine, kLine * tokens, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kLine, width = std::min(columns, end * kLine) - first;
      cpu::RowBuffer<T> buffer(width);
      for (int64_t t = 0; t < tokens; ++t) {
        float* row = gradient + ids[t] * columns + first;
        loops_.add(width, row, cpu::load(loops_, width, dy + t * columns + first, buffer.data()),
                   row);
      }
    });
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
