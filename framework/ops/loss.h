// Cross-entropy over the vocabulary.
#pragma once

#include "ops/exec_context.h"

namespace switchyard {

// Targets with this value carry no loss (Hugging Face's label for padding).
inline constexpr int32_t kIgnoredTarget = -100;

class Loss {
 public:
  virtual ~Loss() = default;

  // losses[t] = logsumexp(logits[t]) - logits[t, targets[t]], 0 where the target is ignored, and
  // the gradient of gradient_scale * sum of losses.
  //   logits  [T, V], targets int32 [T], losses float64 [T]
  //   dlogits absent, or [T, V]; may be logits
  virtual void cross_entropy(ExecContext& ctx, TensorView logits, TensorView targets,
                             double gradient_scale, TensorView losses, TensorView dlogits) = 0;
};

void cross_entropy(ExecContext& ctx, TensorView logits, TensorView targets, double gradient_scale,
                   TensorView losses, TensorView dlogits);

}  // namespace switchyard
