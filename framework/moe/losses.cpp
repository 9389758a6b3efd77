#include "moe/losses.h"

namespace switchyard {

void AuxiliaryLosses::add_gradients(LayerContext& ctx, const TokenRows& rows, TensorView expert,
                                    TensorView logits, TensorView probs,
                                    const RoutingStatistics& statistics, TensorView dprobs,
                                    TensorView dlogits) const {
  const auto groups = static_cast<double>(rows.groups_of_global_batch);
  const auto experts = static_cast<double>(probs.shape()[1]);
  if (load_balance > 0) {
    load_balance_gradient(ctx, expert, rows.group_offsets, statistics,
                          load_balance * experts / groups, dprobs);
  }
  if (router_z > 0) {
    router_z_gradient(ctx, logits, probs, expert, rows.group_offsets, statistics, router_z / groups,
                      dlogits);
  }
}

}  // namespace switchyard
