#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/ordered_gradient.h"
#include "base/reused_memory.h"

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

// Strips of their own also in float32: what lies between the two loops stays in the first-level
// cache.
void CpuKernels::gated_activation(ExecContext&, Activation activation, TensorView gate_view,
                                  TensorView up_view, TensorView y_view) {
  cpu::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *gate = gate_view.data<T>(), *up = up_view.data<T>();
    T* y = y_view.data<T>();
    team_.ranges(y_view.elements(), 2, [&](int64_t begin, int64_t end) {
      float g_strip[cpu::kStrip], u_strip[cpu::kStrip], activated[cpu::kStrip];
      for (int64_t i = begin; i < end; i += cpu::kStrip) {
        const int64_t n = std::min(cpu::kStrip, end - i);
        loops_.activation(static_cast<int>(activation), n, cpu::load(loops_, n, gate + i, g_strip),
                          activated);
        float* product = cpu::target(y + i, activated);
        loops_.multiply(n, activated, cpu::load(loops_, n, up + i, u_strip), product);
        cpu::store(loops_, n, product, y + i);
      }
    });
  });
}

void CpuKernels::gated_activation_backward(ExecContext&, Activation activation,
                                           TensorView gate_view, TensorView up_view,
                                           TensorView dy_view, TensorView dgate_view,
                                           TensorView dup_view) {
  const int kind = static_cast<int>(activation);
  cpu::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *gate = gate_view.data<T>(), *up = up_view.data<T>(), *dy = dy_view.data<T>();
    T *dgate = dgate_view.data<T>(), *dup = dup_view.data<T>();
    team_.ranges(dy_view.elements(), 4, [&](int64_t begin, int64_t end) {
      float g_strip[cpu::kStrip], u_strip[cpu::kStrip], dy_strip[cpu::kStrip];
      float of_gate[cpu::kStrip], of_up[cpu::kStrip];
      for (int64_t i = begin; i < end; i += cpu::kStrip) {
        const int64_t n = std::min(cpu::kStrip, end - i);
        const float* g = cpu::load(loops_, n, gate + i, g_strip);
        const float* d = cpu::load(loops_, n, dy + i, dy_strip);
        loops_.multiply(n, d, cpu::load(loops_, n, up + i, u_strip), of_gate);
        loops_.activation_backward(kind, n, g, of_gate, of_gate);
        loops_.activation(kind, n, g, of_up);
        loops_.multiply(n, d, of_up, of_up);
        cpu::store(loops_, n, of_gate, dgate + i);
        cpu::store(loops_, n, of_up, dup + i);
      }
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
                                    LeafOffsets leaves, Weight& table) {
  const int64_t entries = table.shape()[0], columns = dy_view.shape()[1];
  const int64_t tokens = dy_view.shape()[0];
  const int32_t* ids = ids_view.data<int32_t>();
  for (int64_t t = 0; t < tokens; ++t) checked_row(ids[t], entries, "id");
  if (cpu::sums_ordered(ctx, table)) {
    return ordered_embedding_gradient(ctx, ids, dy_view, leaves, table);
  }
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

// The same with one partial for each leaf and id in it.
void CpuKernels::ordered_embedding_gradient(ExecContext& ctx, const int32_t* ids,
                                            TensorView dy_view, LeafOffsets leaves, Weight& table) {
  const int64_t columns = dy_view.shape()[1], tokens = dy_view.shape()[0];
  ReusedVector<int32_t> order(static_cast<size_t>(tokens));  // by leaf, id and token
  std::iota(order.begin(), order.end(), 0);
  for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
    std::sort(order.begin() + leaves[leaf], order.begin() + leaves[leaf + 1],
              [&](int32_t a, int32_t b) { return std::pair(ids[a], a) < std::pair(ids[b], b); });
  }
  cpu::OrderedGradient sums(ctx, table, loops_, team_);
  constexpr int64_t kLine = 16;
  cpu::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* dy = dy_view.data<T>();
    team_.ranges((columns + kLine - 1) / kLine, kLine * tokens, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kLine, width = std::min(columns, end * kLine) - first;
      cpu::RowBuffer<T> buffer(width);
      ReusedVector<float> partial(static_cast<size_t>(width));
      for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
        for (int64_t i = leaves[leaf]; i < leaves[leaf + 1]; ++i) {
          const int32_t token = order[static_cast<size_t>(i)], id = ids[token];
          const float* row = cpu::load(loops_, width, dy + token * columns + first, buffer.data());
          const bool begins = i == leaves[leaf] || ids[order[static_cast<size_t>(i - 1)]] != id;
          if (begins) {
            std::copy_n(row, width, partial.data());
          } else {
            loops_.add(width, partial.data(), row, partial.data());
          }
          const bool ends =
              i + 1 == leaves[leaf + 1] || ids[order[static_cast<size_t>(i + 1)]] != id;
          if (ends) sums.add(id * columns + first, width, partial.data());
        }
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

// sums[bucket[p], h] += dbias[h, p].  dbias [H, P], bucket int32 [P], sums [buckets, H]
static void add_by_bucket(const float* dbias, TensorView bucket, int64_t heads, int64_t buckets,
                          float* sums) {
  const int64_t distances = bucket.elements();
  for (int64_t p = 0; p < distances; ++p) {
    const int64_t b = checked_row(bucket.data<int32_t>()[p], buckets, "bucket");
    for (int64_t h = 0; h < heads; ++h) sums[b * heads + h] += dbias[h * distances + p];
  }
}

void CpuKernels::distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket,
                                        Weight& table) {
  const int64_t leaves = dbias.shape()[0], heads = dbias.shape()[1], buckets = table.shape()[0];
  const auto add_leaf = [&](int64_t leaf, float* sums) {
    add_by_bucket(dbias.rows(leaf, leaf + 1).data<float>(), bucket, heads, buckets, sums);
  };
  if (!cpu::sums_ordered(ctx, table)) {
    if (table.next_gradient_write() == Write::kOverwrite) fill_zero(ctx, table.gradient());
    for (int64_t leaf = 0; leaf < leaves; ++leaf) add_leaf(leaf, table.gradient().data<float>());
    return;
  }
  cpu::OrderedGradient sums(ctx, table, loops_, team_);
  ReusedVector<float> partial(static_cast<size_t>(buckets * heads));
  for (int64_t leaf = 0; leaf < leaves; ++leaf) {
    std::fill(partial.begin(), partial.end(), 0.0f);
    add_leaf(leaf, partial.data());
    sums.add(0, buckets * heads, partial.data());
  }
}

}  // namespace switchyard
