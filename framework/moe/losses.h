// The auxiliary losses of one layer. One coefficient has one strength in every layout and at every
// accumulation count. Values never enter the reported training loss.
#pragma once

#include "layers/layer_context.h"
#include "moe/observation.h"
#include "moe/router.h"

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
  // Experts of a group where a gate chooses among groups of consecutive experts: half of
  // load_balance is then that of the groups.
  int64_t group_experts = 1;
  // coef * mean of logsumexp(logits)^2 (Zoph 2022, eq. 5), always by routing group: it is linear in
  // the tokens, so a scope could only change the weight of groups with much padding.
  double router_z = 0.0;
  // coef * CV^2 of the summed gate weights, and of the smooth load, over the experts of a routing
  // group, population variance (Shazeer 2017, eq. 6 to 11).
  double importance = 0.0, load = 0.0;
  Scope load_balance_scope = Scope::kGroup;

  bool needs_global_load() const {
    return load_balance > 0 && load_balance_scope == Scope::kGlobal;
  }

  // The load-balance loss of `tokens` real tokens with K choices each.
  //   chosen, probability  [E], sums over the tokens
  double balance(std::span<const double> chosen, std::span<const double> probability, double tokens,
                 double choices) const;
  // The same of everything in `seen`, which is of all ranks.
  double load_balance_of(const MoeObservation& seen) const;

  // What importance and load are of each routing group, float64 [G] in ctx.decisions, without
  // coefficients; absent where the coefficient is 0 or the router has no such load.
  TensorView importance_of(LayerContext& ctx, const TokenRows& rows, const Routing& routing) const;
  TensorView load_of(LayerContext& ctx, const TokenRows& rows, const Routing& routing) const;

  // Adds to all of `gradient`.
  //   global  of this step; used where needs_global_load()
  void add_gradients(LayerContext& ctx, const TokenRows& rows, const Routing& routing,
                     const RoutingStatistics& statistics, const GlobalLoad& global,
                     const RoutingGradient& gradient) const;

 private:
  void add_balance(LayerContext& ctx, TensorView real, LeafOffsets groups,
                   const RoutingStatistics& statistics, int64_t choices, double factor,
                   TensorView dprobs) const;
  void add_global_balance(LayerContext& ctx, TensorView real, int64_t choices,
                          const GlobalLoad& global, TensorView dprobs) const;
  // The gate weights [T, E] in ctx.scratch.
  TensorView gates(LayerContext& ctx, const Routing& routing) const;
};

}  // namespace switchyard
