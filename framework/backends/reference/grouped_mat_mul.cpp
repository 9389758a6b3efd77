#include <vector>

#include "backends/reference/activation.h"
#include "backends/reference/gradient_sink.h"
#include "backends/reference/products.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Accurate;
using reference::Matrix;

// Where row i of the compact order stands in a tensor of `order` with `rows_there` rows.
int64_t place_of(const RaggedRows& rows, RowOrder order, int64_t i, int64_t rows_there) {
  const int64_t place = order == RowOrder::kCompact ? i : rows.index.data<int32_t>()[i];
  SWITCHYARD_CHECK(place >= 0 && place < rows_there, "row ", i, " stands at ", place, " of ",
                   rows_there, " rows");
  return place;
}

// What row i is multiplied by when it is written in `order`.
template <typename T>
T factor_of(const RaggedRows& rows, RowOrder order, int64_t i) {
  const bool scaled = order == RowOrder::kIndexed && !rows.scale.absent();
  return scaled ? static_cast<T>(rows.scale.data<float>()[i]) : T{1};
}

// Expert e's [out, in] slice of a stacked weight or gradient.
template <typename T>
Matrix<T> slice_of_expert(TensorView stacked, int64_t e) {
  const Shape& shape = stacked.shape();
  return Matrix<T>(stacked.data<T>() + e * shape[1] * shape[2], shape[1], shape[2]);
}

}  // namespace

void ReferenceKernels::grouped_linear(ExecContext&, TensorView x_view, RowOrder x_order,
                                      const Weight& weight, const RaggedRows& rows,
                                      TensorView y_view, RowOrder y_order,
                                      const Epilogue& epilogue) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), y(y_view);
    for (int64_t e = 0; e < rows.experts(); ++e) {
      const auto w = slice_of_expert<Accurate<T>>(weight.master(), e);
      for (int64_t i = rows.offsets[e]; i < rows.offsets[e + 1]; ++i) {
        const T* from = x.row(place_of(rows, x_order, i, x_view.shape()[0]));
        T* to = y.row(place_of(rows, y_order, i, y_view.shape()[0]));
        const auto factor = factor_of<Accurate<T>>(rows, y_order, i);
        for (int64_t n = 0; n < w.rows(); ++n) {
          const Accurate<T> sum = reference::dot_row<T>(w, n, from);
          if (!epilogue.saved_pre_activation.absent()) {
            Matrix<T>(epilogue.saved_pre_activation)(i, n) = static_cast<T>(sum);
          }
          to[n] = static_cast<T>(factor * reference::activate(epilogue.activation, sum));
        }
      }
    }
  });
}

void ReferenceKernels::grouped_input_gradient(ExecContext&, TensorView dy_view, RowOrder dy_order,
                                              const Weight& weight, const RaggedRows& rows,
                                              TensorView dx_view, RowOrder dx_order) {
  reference::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> dy(dy_view), dx(dx_view);
    std::vector<Accurate<T>> row(static_cast<size_t>(dx.columns()));
    for (int64_t e = 0; e < rows.experts(); ++e) {
      const auto w = slice_of_expert<Accurate<T>>(weight.master(), e);
      for (int64_t i = rows.offsets[e]; i < rows.offsets[e + 1]; ++i) {
        const T* from = dy.row(place_of(rows, dy_order, i, dy_view.shape()[0]));
        T* to = dx.row(place_of(rows, dx_order, i, dx_view.shape()[0]));
        reference::input_gradient_row<T>(from, w, row.data());
        const auto factor = factor_of<Accurate<T>>(rows, dx_order, i);
        for (int64_t k = 0; k < dx.columns(); ++k) to[k] = static_cast<T>(row[k] * factor);
      }
    }
  });
}

void ReferenceKernels::grouped_weight_gradient(ExecContext& ctx, TensorView x_view,
                                               RowOrder x_order, TensorView dy_view,
                                               RowOrder dy_order, const RaggedRows& rows,
                                               Weight& weight) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> x(x_view), dy(dy_view);
    reference::GradientSink<Accurate<T>> sink(ctx, weight, rows.experts());
    for (int64_t e = 0; e < rows.experts(); ++e) {
      const auto add_block = [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t x_row = place_of(rows, x_order, i, x_view.shape()[0]);
          const int64_t dy_row = place_of(rows, dy_order, i, dy_view.shape()[0]);
          reference::add_outer_product<T>(dy.row(dy_row), x.row(x_row), sink.slice(e));
        }
        sink.end_part(e);
      };
      reference::over_blocks(ctx, rows.leaf_offsets, rows.offsets[e], rows.offsets[e + 1],
                             add_block);
    }
  });
}

}  // namespace switchyard
