// The auxiliary losses of one layer, scope `group`: each routing group's value counts one over the
// routing groups of the global batch, so that a coefficient has one strength in every layout and at
// every accumulation count. Values never enter the reported training loss.
#pragma once

#include "layers/layer_context.h"

namespace switchyard {

struct AuxiliaryLosses {
  // coef * E * sum_e f_e P_e: f_e = share of the choices that went to e, before drops, without
  // gradient; P_e = mean probability (Fedus 2021, eq. 4). Balanced value: coef.
  double load_balance = 0.0;
  // coef * mean of logsumexp(logits)^2 (Zoph 2022, eq. 5).
  double router_z = 0.0;

  // Adds d(losses)/d(probs) and d(losses)/d(logits), both [T, E].
  //   expert  int32 [T, K], before drops
  void add_gradients(LayerContext& ctx, const TokenRows& rows, TensorView expert, TensorView logits,
                     TensorView probs, const RoutingStatistics& statistics, TensorView dprobs,
                     TensorView dlogits) const;
};

}  // namespace switchyard
