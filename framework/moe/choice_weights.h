// What chosen experts weigh: their scores, or these divided by their sum.
#pragma once

#include "layers/layer_context.h"

namespace switchyard {

struct ChoiceWeights {
  bool normalize = true;
  double scale = 1.0;

  // weight[t, k] = scale * scores[t, expert[t, k]] (/ the sum of a row's), 0 where expert is -1.
  //   scores [T, E], expert int32 [T, K], weight [T, K]
  void weigh(ExecContext& ctx, TensorView scores, TensorView expert, TensorView weight) const;
  // Adds d(loss)/d(scores) to dscores; overwrites dweight.
  void backward(ExecContext& ctx, TensorView scores, TensorView expert, TensorView dweight,
                TensorView dscores) const;
};

}  // namespace switchyard
