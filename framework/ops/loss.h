// Cross-entropy over the vocabulary, and what training may add to it.
#pragma once

#include "ops/exec_context.h"

namespace switchyard {

// Targets with this value carry no loss (Hugging Face's label for padding).
inline constexpr int32_t kIgnoredTarget = -100;

// The objective whose gradient cross_entropy gives, for each target
//   (1 - label_smoothing) L[target] + label_smoothing * mean over all V words of L[v]
//     + z * logsumexp(logits)^2,   L[v] = logsumexp(logits) - logits[v]
// (Szegedy 2016; de Brebisson & Vincent 2016). The losses that it writes are plain L[target].
struct CrossEntropy {
  double gradient_scale = 1;   // times the sum over the targets
  double label_smoothing = 0;  // share of the target that is spread evenly over the vocabulary
  double z = 0;
};

class Loss {
 public:
  virtual ~Loss() = default;

  // losses[t] = logsumexp(logits[t]) - logits[t, targets[t]]; z_losses[t] = z logsumexp^2; both 0
  // where the target is ignored. The gradient is that of the objective above.
  //   logits    [T, V], targets int32 [T], losses float64 [T]
  //   z_losses  absent, or float64 [T]
  //   dlogits   absent, or [T, V]; may be logits
  virtual void cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView logits,
                             TensorView targets, TensorView losses, TensorView z_losses,
                             TensorView dlogits) = 0;
};

void cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView logits,
                   TensorView targets, TensorView losses, TensorView z_losses, TensorView dlogits);

}  // namespace switchyard
