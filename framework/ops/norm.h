// Root-mean-square normalisation (Zhang & Sennrich 2019), T5's LayerNorm.
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

// In bfloat16: whether y is rounded once, or x * inverse_rms first and then its product with the
// weight, as in Mixtral, OLMoE and Qwen. The same elsewhere.
enum class NormRounding : uint8_t { kOnce, kBeforeWeight };

class Norm {
 public:
  virtual ~Norm() = default;

  // y = x * inverse_rms * w, inverse_rms = 1 / sqrt(mean(x^2) + epsilon), in the accurate dtype.
  //   x, y [T, D]; w [D]; inverse_rms accurate dtype [T]: saved for backward
  virtual void rms_norm(ExecContext& ctx, TensorView x, const Weight& w, double epsilon,
                        NormRounding rounding, TensorView y, TensorView inverse_rms) = 0;

  // Writes d(loss)/dx into dx and the weight's gradient into w's sink; roundings have no part.
  virtual void rms_norm_backward(ExecContext& ctx, TensorView x, TensorView inverse_rms,
                                 TensorView dy, LeafOffsets leaves, TensorView dx, Write write,
                                 Weight& w) = 0;
};

void rms_norm(ExecContext& ctx, TensorView x, const Weight& w, double epsilon, TensorView y,
              TensorView inverse_rms, NormRounding rounding = NormRounding::kOnce);
void rms_norm_backward(ExecContext& ctx, TensorView x, TensorView inverse_rms, TensorView dy,
                       LeafOffsets leaves, TensorView dx, Write write, Weight& w);

}  // namespace switchyard
