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

struct SgdStep {
  double learning_rate = 0;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;  // decoupled, as AdamWStep's
  double gradient_scale = 1;
};

struct AdafactorStep {
  double decay = 0;           // rho of this step: weight of the moments so far
  double epsilon = 1e-30;     // added to each squared gradient
  double gradient_scale = 1;  // as AdamWStep's
};

// Adafactor's second moments of N tensors that are treated one by one: of matrices [out, in] the
// means over each row and each column, of anything else every element.
struct AdafactorMoments {
  TensorView rows;     // [N, out]; not factored: [N, elements]
  TensorView columns;  // [N, in]; not factored: absent
};

class Update {
 public:
  virtual ~Update() = default;

  // sum[0] = sum of x^2 in float64.  sum float64 [1]
  virtual void sum_of_squares(ExecContext& ctx, TensorView x, TensorView sum) = 0;
  // gradient = sums / 2^52 (ordered_sums.h), where the sums stand.
  //   weight  keeps ordered sums, written this step
  virtual void gradient_of_sums(ExecContext& ctx, Weight& weight) = 0;
  // AdamW (Loshchilov & Hutter 2019, algorithm 2) in one pass; the caller says master_changed().
  //   weight, gradient, first, second: one shape and dtype (float32 or float64)
  virtual void adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight,
                     TensorView gradient, TensorView first, TensorView second) = 0;
  // v = momentum v + g; w -= learning_rate (v, or with nesterov g + momentum v) + the decay
  // (Sutskever 2013 as PyTorch has it), g the scaled gradient; without velocity v = g.
  //   weight, gradient, velocity: one shape and dtype (float32 or float64)
  //   velocity  absent where momentum is 0
  virtual void sgd(ExecContext& ctx, const SgdStep& step, TensorView weight, TensorView gradient,
                   TensorView velocity) = 0;

  // First half of Adafactor (Shazeer & Stern 2018, algorithm 4; Mesh-TensorFlow): with g the scaled
  // gradient and g2 = g^2 + epsilon,
  //   rows = decay rows + (1 - decay) mean of g2 over a row, columns likewise;
  //   u = g / sqrt(rows / mean(rows)) / sqrt(columns), not factored u = g / sqrt(rows)
  // and the sums that its clipping and scaling need: sums[n] = {sum of u^2, sum of weight^2}.
  //   weight, gradient  [N, out, in]; not factored [N, elements]; one dtype (float32 or float64)
  //   moments           of that dtype
  //   sums              float64 [N, 2]
  virtual void adafactor_moments(ExecContext& ctx, const AdafactorStep& step, TensorView weight,
                                 TensorView gradient, const AdafactorMoments& moments,
                                 TensorView sums) = 0;
  // Second half: weight -= step_size[n] u + decay weight, with u as above.
  //   step_sizes  float64 [N]
  //   decay       share of the weight that the step takes away
  virtual void adafactor_update(ExecContext& ctx, double gradient_scale, double decay,
                                TensorView step_sizes, TensorView weight, TensorView gradient,
                                const AdafactorMoments& moments) = 0;
};

void sum_of_squares(ExecContext& ctx, TensorView x, TensorView sum);
void gradient_of_sums(ExecContext& ctx, Weight& weight);
void adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight, TensorView gradient,
           TensorView first, TensorView second);
void sgd(ExecContext& ctx, const SgdStep& step, TensorView weight, TensorView gradient,
         TensorView velocity);
void adafactor_moments(ExecContext& ctx, const AdafactorStep& step, TensorView weight,
                       TensorView gradient, const AdafactorMoments& moments, TensorView sums);
void adafactor_update(ExecContext& ctx, double gradient_scale, double decay, TensorView step_sizes,
                      TensorView weight, TensorView gradient, const AdafactorMoments& moments);

}  // namespace switchyard
