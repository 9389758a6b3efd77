// Cross-entropy over the vocabulary, and what training may add to it.
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

// Targets with this value carry no loss (Hugging Face's label for padding).
inline constexpr int32_t kIgnoredTarget = -100;

// The objective whose gradient linear_cross_entropy gives, for each target
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

  // From logits = h W^T, of which only blocks of rows ever stand in memory (scratch; ordered sums
  // need those of a whole leaf): losses[t] = logsumexp(logits[t]) - logits[t, targets[t]]; z_losses
  // [t] = z logsumexp^2; both 0 where the target is ignored. Where dh is given, the gradient of the
  // objective above in h, and in w, written as w.next_gradient_write() says. Logits and their
  // gradient are rounded to h's dtype. A row's results don't depend on the other rows.
  //   h         [T, D], w [V, D], targets int32 [T], losses float64 [T]; T may be 0
  //   leaves    of the rows; used only with dh
  //   z_losses  absent, or float64 [T]
  //   dh        absent (evaluation), or [T, D]
  virtual void linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView h,
                                    Weight& w, TensorView targets, LeafOffsets leaves,
                                    TensorView losses, TensorView z_losses, TensorView dh) = 0;
};

void linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView h, Weight& w,
                          TensorView targets, LeafOffsets leaves, TensorView losses,
                          TensorView z_losses, TensorView dh);

}  // namespace switchyard
