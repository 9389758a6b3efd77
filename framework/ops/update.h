// What an optimizer does to a weight and its state, and the sums that the gradient norm is made of.
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

struct AdamWStep {
  double learning_rate = 0;  // of this step
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;    // decoupled: w -= learning_rate * weight_decay * w
  int64_t step = 1;           // 1-based, for bias correction
  double gradient_scale = 1;  // the clipping factor, applied to the gradient on reading
};

class Update {
 public:
  virtual ~Update() = default;

  // sum[0] = sum of x^2 in float64.  sum float64 [1]
  virtual void sum_of_squares(ExecContext& ctx, TensorView x, TensorView sum) = 0;
  // AdamW (Loshchilov & Hutter 2019, algorithm 2) in one pass; the caller says master_changed().
  //   weight, gradient, first, second: one shape and dtype (float32 or float64)
  virtual void adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight,
                     TensorView gradient, TensorView first, TensorView second) = 0;
};

void sum_of_squares(ExecContext& ctx, TensorView x, TensorView sum);
void adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight, TensorView gradient,
           TensorView first, TensorView second);

}  // namespace switchyard
