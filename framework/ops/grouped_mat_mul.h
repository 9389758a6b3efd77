// One product per expert over ragged rows, all experts of a layer in one call, no padding work.
#pragma once

#include "ops/mat_mul.h"

namespace switchyard {

// Rows sorted by expert. Expert e (local) has the rows [offsets[e], offsets[e + 1]) of the compact
// order. An input or output in kIndexed order stands elsewhere: row i of the compact order is row
// index[i] there (gather on read, scatter on write).
struct RaggedRows {
  std::span<const int64_t> offsets;  // host [L + 1]
  TensorView device_offsets;         // int64 [L + 1] where kernels read them; absent on the host
  TensorView index;                  // int32 [N]; absent: kIndexed is not used
  TensorView scale;                  // float32 [N] or absent: factor of row i on indexed writes
  // Host: compact boundaries of every (expert, leaf) run; weight gradients need them where sums are
  // ordered. A run that a call has only a part of begins at a multiple of kOrderedBlockRows of it.
  std::span<const int64_t> leaf_offsets;

  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t rows() const { return offsets.back(); }
};

enum class RowOrder : uint8_t { kCompact, kIndexed };

class GroupedMatMul {
 public:
  virtual ~GroupedMatMul() = default;

  // For every expert e and its rows: y = activation(x W_e^T). Same rows, same bits, whatever the
  // other rows of the call (on CUDA: where sums are ordered). In kIndexed order rows that no index
  // names are left as they are.
  //   x [N or more, K], w [L, out, K], y [N or more, out]; saved pre-activation in compact order
  virtual void grouped_linear(ExecContext& ctx, TensorView x, RowOrder x_order, const Weight& w,
                              const RaggedRows& rows, TensorView y, RowOrder y_order,
                              const Epilogue& epilogue) = 0;

  // For every expert: dx = dy W_e.
  //   dy [N or more, out], dx [N or more, K]
  virtual void grouped_input_gradient(ExecContext& ctx, TensorView dy, RowOrder dy_order,
                                      const Weight& w, const RaggedRows& rows, TensorView dx,
                                      RowOrder dx_order) = 0;

  // For every expert: writes dy^T x of its rows into w's gradient, zero for an expert without rows.
  virtual void grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order,
                                       TensorView dy, RowOrder dy_order, const RaggedRows& rows,
                                       Weight& w) = 0;
};

void grouped_linear(ExecContext& ctx, TensorView x, RowOrder x_order, const Weight& w,
                    const RaggedRows& rows, TensorView y, RowOrder y_order,
                    const Epilogue& epilogue = {});
void grouped_input_gradient(ExecContext& ctx, TensorView dy, RowOrder dy_order, const Weight& w,
                            const RaggedRows& rows, TensorView dx, RowOrder dx_order);
void grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order, TensorView dy,
                             RowOrder dy_order, const RaggedRows& rows, Weight& w);

}  // namespace switchyard
