// The auxiliary losses of one layer. One coefficient has one strength in every layout and at every
// accumulation count. Values never enter the reported training loss.
#pragma once

#include "layers/layer_context.h"
#include "moe/observation.h"

namespace switchyard {

// What all experts of a layer were asked for in one global batch, over all its micro-batches and
// ranks.
struct GlobalLoad {
  uint32_t step = 0;            // of the batch, so that another's can't be taken for it
  int64_t tokens = 0;           // real ones
  std::vector<int64_t> chosen;  // [E] choices before drops
};

struct AuxiliaryLosses {
  // Over what f and P are formed before they are multiplied.
  //   kGroup   each routing group, then the mean over all groups of the global batch
  //   kGlobal  the whole global batch: needs its GlobalLoad before the first backward
  enum class Scope : uint8_t { kGroup, kGlobal };

  // coef * E * sum_e f_e P_e: f_e = share of the choices that went to e, before drops, without
  // gradient; P_e = mean probability (Fedus 2021, eq. 4). Balanced value: coef.
  double load_balance = 0.0;
  // coef * mean of logsumexp(logits)^2 (Zoph 2022, eq. 5), always by routing group: it is linear in
  // the tokens, so a scope could only change the weight of groups with much padding.
  double router_z = 0.0;
  Scope load_balance_scope = Scope::kGroup;

  bool needs_global_load() const {
    return load_balance > 0 && load_balance_scope == Scope::kGlobal;
  }

  // The load-balance loss of everything in `seen`, which is of all ranks.
  double load_balance_of(const MoeObservation& seen) const;

  // Adds d(losses)/d(probs) and d(losses)/d(logits), both [T, E].
  //   expert  int32 [T, K], before drops
  //   load    of this step; used where needs_global_load()
  void add_gradients(LayerContext& ctx, const TokenRows& rows, TensorView expert, TensorView logits,
                     TensorView probs, const RoutingStatistics& statistics, const GlobalLoad& load,
                     TensorView dprobs, TensorView dlogits) const;

 private:
  void add_global_balance(LayerContext& ctx, TensorView expert, const GlobalLoad& load,
                          TensorView dprobs) const;
};

}  // namespace switchyard
