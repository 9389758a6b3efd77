#include "moe/choice_weights.h"

namespace switchyard {

void ChoiceWeights::weigh(ExecContext& ctx, TensorView scores, TensorView expert,
                          TensorView weight) const {
  gather_choices(ctx, scores, expert, weight);
  if (normalize) {
    normalize_rows(ctx, weight, scale, weight);
  } else if (scale != 1.0) {
    switchyard::scale(ctx, weight, scale, weight);
  }
}

void ChoiceWeights::backward(ExecContext& ctx, TensorView scores, TensorView expert,
                             TensorView dweight, TensorView dscores) const {
  if (normalize) {
    const ScratchScope scope(ctx.scratch);
    const TensorView chosen = ctx.scratch.allocate(dweight.dtype(), dweight.shape());
    gather_choices(ctx, scores, expert, chosen);
    normalize_rows_backward(ctx, chosen, scale, dweight, dweight, Write::kOverwrite);
  } else if (scale != 1.0) {
    switchyard::scale(ctx, dweight, scale, dweight);
  }
  gather_choices_backward(ctx, expert, dweight, dscores);
}

}  // namespace switchyard
