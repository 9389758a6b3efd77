#include "moe/losses.h"

namespace switchyard {

double AuxiliaryLosses::load_balance_of(const MoeObservation& seen) const {
  if (!needs_global_load()) return seen.load_balance;
  if (seen.tokens == 0) return 0.0;
  const auto choices = static_cast<double>(seen.dropped_by_choice.size());
  double balance = 0;  // sum_e f_e P_e
  for (size_t e = 0; e < seen.chosen.size(); ++e) {
    balance += seen.chosen[e] / (choices * seen.tokens) * (seen.probability[e] / seen.tokens);
  }
  return load_balance * static_cast<double>(seen.chosen.size()) * balance;
}

void AuxiliaryLosses::add_global_balance(LayerContext& ctx, TensorView expert,
                                         const GlobalLoad& load, TensorView dprobs) const {
  SWITCHYARD_CHECK(load.step == ctx.step && !load.chosen.empty(),
                   "the load of the global batch of step ", ctx.step, " is not known");
  // The global batch as one group, of which this rank has the tokens [0, T).
  const ScratchScope scope(ctx.scratch);
  const int64_t boundaries[] = {0, expert.shape()[0]};
  const RoutingStatistics whole = allocate_statistics(ctx.scratch, 1, dprobs.shape()[1]);
  upload(ctx, std::span(&load.tokens, 1), whole.tokens);
  upload(ctx, std::span(load.chosen), whole.chosen);
  load_balance_gradient(ctx, expert, boundaries, whole,
                        load_balance * static_cast<double>(dprobs.shape()[1]), dprobs);
}

void AuxiliaryLosses::add_gradients(LayerContext& ctx, const TokenRows& rows, TensorView expert,
                                    TensorView logits, TensorView probs,
                                    const RoutingStatistics& statistics, const GlobalLoad& load,
                                    TensorView dprobs, TensorView dlogits) const {
  const auto groups = static_cast<double>(rows.groups_of_global_batch);
  const auto experts = static_cast<double>(probs.shape()[1]);
  if (needs_global_load()) {
    add_global_balance(ctx, expert, load, dprobs);
  } else if (load_balance > 0) {
    load_balance_gradient(ctx, expert, rows.group_offsets, statistics,
                          load_balance * experts / groups, dprobs);
  }
  if (router_z > 0) {
    router_z_gradient(ctx, logits, probs, expert, rows.group_offsets, statistics, router_z / groups,
                      dlogits);
  }
}

}  // namespace switchyard
