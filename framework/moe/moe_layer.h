// A mixture-of-experts feed-forward layer: route, share out room, bring tokens to their experts,
// compute, bring results back, combine. Backward is the same from bottom to top.
#pragma once

#include <memory>

#include "layers/feed_forward.h"
#include "moe/capacity.h"
#include "moe/dense_path.h"
#include "moe/distributed_experts.h"
#include "moe/losses.h"
#include "moe/observation.h"
#include "moe/slot_router.h"

namespace switchyard {

// What a layer decided for one micro-batch and what was measured on the way: all that is needed to
// run its forward again, and all that observe() reads. Stands in ctx.decisions; the views may be
// kept aside while the layer works on other micro-batches.
struct MoeDecisions {
  TensorView expert;   // int32 [T, K]: choices before drops
  TensorView counted;  // int32 [T, K]: those of them that losses and metrics see
  TensorView kept;     // int32 [T, K]: the experts that choices reach, see plan_capacity
  RoutingStatistics statistics;
  TensorView dropped, weights;  // see drop_statistics
  TensorView kept_counts;       // int64 [G, E]: of `counted`
  TensorView importance, load;  // float64 [G] or absent, see AuxiliaryLosses
  // [T, E], in ctx.saved: what the router chose by; tells how near to a tie a choice was.
  TensorView scores;
  // int32 [T, K], not set by the layer: choices to be taken instead of its own by the next forward,
  // which decides everything else anew.
  TensorView given;
};

class MoeLayer : public FeedForward {
 public:
  struct Saved : FeedForward::Saved, MoeDecisions {
    std::unique_ptr<Routing> routing;
    DistributedExperts::Saved experts;
    TensorView results;  // [B * N, D]: of slots; absent where tokens travel
    DensePath::Saved dense_path;
  };

  //   name    "encoder.block.1.moe"
  //   layer   see layer_id
  MoeLayer(std::string name, uint16_t layer, std::unique_ptr<Router> router,
           std::unique_ptr<Experts> experts, const CapacityRule& capacity,
           const AuxiliaryLosses& losses, Exchange::Options exchange = {},
           std::unique_ptr<DensePath> dense_path = nullptr);

  std::unique_ptr<FeedForward::Saved> make_saved() const override;
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                     FeedForward::Saved& saved) override;
  void backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                const FeedForward::Saved& saved, TensorView dy, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override;

  // After each optimizer step, on every rank; see Router::balance.
  //   chosen  int64 [E] in the global batch
  void balance(LayerContext& ctx, std::span<const int64_t> chosen) {
    router_->balance(ctx, chosen);
  }

  // Reads back what the forward pass behind `saved` did and adds it to observation(). Once for each
  // micro-batch; local, waits for the stream.
  void observe(LayerContext& ctx, const TokenRows& rows, const FeedForward::Saved& saved);
  MoeObservation& observation() { return observation_; }
  const MoeObservation& observation() const { return observation_; }

  const AuxiliaryLosses& losses() const { return losses_; }
  // For the backward passes of a step, where losses().needs_global_load().
  void set_global_load(const GlobalLoad& load) { global_load_ = load; }

  int64_t choices() const { return router_->choices(); }  // K
  bool makes_slots() const { return slot_router_ != nullptr; }
  const Exchange& exchange() const { return experts_.exchange(); }
  const std::string& name() const { return name_; }
  StackKind stack() const { return stack_of(layer_); }
  const ExpertRange& local_experts() const { return experts_.experts().range(); }

 private:
  // What travels to the experts.
  struct Travellers {
    const TokenRows& rows;
    TensorView x, expert;  // [N, D]; int32 [N, K], -1: stays
  };

  RouterInput router_input(const LayerContext& ctx, const TokenRows& rows, TensorView x) const;
  Travellers travellers(const TokenRows& rows, TensorView x, const Saved& saved) const;
  int64_t capacity(const LayerContext& ctx, const TokenRows& rows) const;
  // The choices [T, K] of real tokens, -1 for padding: losses and metrics leave padding out even
  // where it is routed. In `arena` if they differ.
  TensorView without_padding(LayerContext& ctx, const TokenRows& rows, TensorView choices,
                             Arena& arena) const;
  // Who has room first, [T, K] in ctx.scratch or the routing's weights; absent: by position.
  TensorView priority(LayerContext& ctx, const TokenRows& rows, const Routing& routing) const;
  bool routes_padding() const { return capacity_.padding_takes_capacity && !drops_none(); }
  bool reroutes() const { return capacity_.overflow == CapacityRule::Overflow::kReroute; }
  bool drops_none() const { return capacity_.overflow == CapacityRule::Overflow::kDropless; }
  // Who gets room, int32 [T, K] in ctx.decisions.
  TensorView plan(LayerContext& ctx, const TokenRows& rows, const Routing& routing) const;
  // Fills the decisions from saved.routing; rerouted choices then land where they were sent.
  void decide(LayerContext& ctx, const TokenRows& rows, Saved& saved) const;
  // Of the mixture alone, without the dense path.
  TensorView forward_routed(LayerContext& ctx, const TokenRows& rows, TensorView x, Saved& saved);
  void backward_routed(LayerContext& ctx, const TokenRows& rows, TensorView x, const Saved& saved,
                       TensorView dy, TensorView dx);
  // What capacity did to the choices.
  void measure_drops(LayerContext& ctx, const TokenRows& rows, Saved& saved) const;
  // In ctx.scratch.
  RoutingGradient zero_gradient(LayerContext& ctx, const Routing& routing) const;
  void observe_routing(LayerContext& ctx, const TokenRows& rows, const Saved& saved);
  void observe_variations(LayerContext& ctx, const TokenRows& rows, const Saved& saved);
  // By label and by token, where the observation asks for it.
  void observe_classes(LayerContext& ctx, const TokenRows& rows, const Saved& saved);
  void observe_drops(LayerContext& ctx, const Saved& saved);
  int64_t experts() const { return local_experts().total; }

  std::string name_;
  uint16_t layer_;
  std::unique_ptr<Router> router_;
  SlotRouter* slot_router_;  // router_, if it is one
  DistributedExperts experts_;
  std::unique_ptr<DensePath> dense_path_;
  CapacityRule capacity_;
  AuxiliaryLosses losses_;
  MoeObservation observation_;
  GlobalLoad global_load_;
};

}  // namespace switchyard
