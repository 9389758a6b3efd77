// Soft MoE (Puigcerver 2023): every slot is a weighted mean of one sequence's tokens, every token's
// output a weighted mean of all slots' results. Nothing is chosen, nothing is dropped; padding has
// no part in a slot.
#pragma once

#include <optional>

#include "moe/gate.h"
#include "moe/slot_router.h"

namespace switchyard {

struct SoftRouterOptions : OptionsOf<SoftRouterOptions, RouterOptions> {
  std::optional<int64_t> slots_per_expert;  // empty: RouterPlace::slots

  void describe(Fields& f) override;
};

class SoftRouter : public SlotRouter {
 public:
  // Weight `place.name` [N, D]: the transpose of the paper's Phi.
  SoftRouter(const SoftRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return 1; }
  int64_t slots_per_expert() const { return slots_; }
  std::unique_ptr<Routing> make_routing() const override;
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  // There is nothing to reroute: every slot has its place.
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  TensorView spread(LayerContext& ctx, const RouterInput& input, const SlotRouting& routing,
                    TensorView results) override;
  void spread_backward(LayerContext& ctx, const RouterInput& input, const SlotRouting& routing,
                       TensorView results, TensorView dy, TensorView dresults,
                       TensorView dweight) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override { gate_.collect_weights(weights); }

 private:
  // Says of the slots what TokenRows says of tokens.
  void number_slots(LayerContext& ctx, const TokenRows& tokens, SlotRouting& routing) const;

  int64_t experts_, slots_;
  Gate gate_;
};

}  // namespace switchyard
