#include <cstring>

#include "backends/reference/activation.h"
#include "backends/reference/gradient_sink.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

using reference::Accurate;
using reference::Matrix;

namespace {

int64_t checked_row(int32_t row, int64_t rows, std::string_view what) {
  SWITCHYARD_CHECK(row >= 0 && row < rows, what, " ", row, " of ", rows);
  return row;
}

}  // namespace

void ReferenceKernels::fill_zero(ExecContext&, TensorView x) {
  std::memset(x.raw(), 0, x.size_bytes());  // all bits zero is the number 0 in every dtype
}

void ReferenceKernels::copy(ExecContext&, TensorView x, TensorView y) {
  if (x.dtype() == y.dtype()) {
    std::memcpy(y.raw(), x.raw(), x.size_bytes());
    return;
  }
  reference::with_activation(x.dtype(), [&](auto from) {
    reference::with_activation(y.dtype(), [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      for (int64_t i = 0; i < x.elements(); ++i) {
        y.data<To>()[i] = static_cast<To>(x.data<From>()[i]);
      }
    });
  });
}

void ReferenceKernels::add(ExecContext&, TensorView a, TensorView b, TensorView y) {
  reference::with_activation(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < y.elements(); ++i) {
      y.data<T>()[i] = static_cast<T>(a.data<T>()[i] + b.data<T>()[i]);
    }
  });
}

void ReferenceKernels::scale(ExecContext&, TensorView x, double factor, TensorView y) {
  reference::with_activation(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < y.elements(); ++i) {
      y.data<T>()[i] = static_cast<T>(static_cast<Accurate<T>>(factor) * x.data<T>()[i]);
    }
  });
}

void ReferenceKernels::activation_backward(ExecContext&, Activation activation,
                                           TensorView pre_activation, TensorView dy,
                                           TensorView dx) {
  reference::with_activation(dx.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < dx.elements(); ++i) {
      const Accurate<T> x = pre_activation.data<T>()[i];
      dx.data<T>()[i] =
          static_cast<T>(dy.data<T>()[i] * reference::activation_derivative(activation, x));
    }
  });
}

void ReferenceKernels::gated_activation(ExecContext&, Activation activation, TensorView gate,
                                        TensorView up, TensorView y) {
  reference::with_activation(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < y.elements(); ++i) {
      const Accurate<T> g = gate.data<T>()[i], u = up.data<T>()[i];
      y.data<T>()[i] = static_cast<T>(reference::activate(activation, g) * u);
    }
  });
}

void ReferenceKernels::gated_activation_backward(ExecContext&, Activation activation,
                                                 TensorView gate, TensorView up, TensorView dy,
                                                 TensorView dgate, TensorView dup) {
  reference::with_activation(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < dy.elements(); ++i) {
      const Accurate<T> g = gate.data<T>()[i], u = up.data<T>()[i], d = dy.data<T>()[i];
      dgate.data<T>()[i] = static_cast<T>(d * u * reference::activation_derivative(activation, g));
      dup.data<T>()[i] = static_cast<T>(d * reference::activate(activation, g));
    }
  });
}

void ReferenceKernels::embedding(ExecContext&, const Weight& table_weight, TensorView ids,
                                 TensorView y_view) {
  reference::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<Accurate<T>> table(table_weight.master());
    const Matrix<T> y(y_view);
    for (int64_t t = 0; t < y.rows(); ++t) {
      const int64_t id = checked_row(ids.data<int32_t>()[t], table.rows(), "id");
      for (int64_t d = 0; d < y.columns(); ++d) y(t, d) = static_cast<T>(table(id, d));
    }
  });
}

void ReferenceKernels::embedding_gradient(ExecContext& ctx, TensorView ids, TensorView dy_view,
                                          LeafOffsets leaves, Weight& table_weight) {
  reference::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> dy(dy_view);
    reference::GradientSink<Accurate<T>> sink(ctx, table_weight);
    const auto dtable = sink.whole();
    for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
      for (int64_t t = leaves[leaf]; t < leaves[leaf + 1]; ++t) {
        const int64_t id = checked_row(ids.data<int32_t>()[t], dtable.rows(), "id");
        for (int64_t d = 0; d < dy.columns(); ++d) dtable(id, d) += dy(t, d);
      }
      sink.end_part();
    }
  });
}

void ReferenceKernels::distance_bias(ExecContext&, const Weight& table_weight, TensorView bucket,
                                     TensorView bias_view) {
  reference::with_floating(bias_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> table(table_weight.master()), bias(bias_view);
    for (int64_t p = 0; p < bias.columns(); ++p) {
      const int64_t b = checked_row(bucket.data<int32_t>()[p], table.rows(), "bucket");
      for (int64_t h = 0; h < bias.rows(); ++h) bias(h, p) = table(b, h);
    }
  });
}

void ReferenceKernels::distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket,
                                              Weight& table_weight) {
  reference::with_floating(dbias.dtype(), [&](auto zero) {
    using T = decltype(zero);
    reference::GradientSink<T> sink(ctx, table_weight);
    const Matrix<T> dtable = sink.whole();
    for (int64_t leaf = 0; leaf < dbias.shape()[0]; ++leaf) {
      const Matrix<T> of_leaf(dbias.rows(leaf, leaf + 1));  // [H, P]
      for (int64_t p = 0; p < of_leaf.columns(); ++p) {
        const int64_t b = checked_row(bucket.data<int32_t>()[p], dtable.rows(), "bucket");
        for (int64_t h = 0; h < of_leaf.rows(); ++h) dtable(b, h) += of_leaf(h, p);
      }
      sink.end_part();
    }
  });
}

}  // namespace switchyard
