// A mixture-of-experts feed-forward layer: route, share out room, bring tokens to their experts,
// compute, bring results back, combine. Backward is the same from bottom to top.
#pragma once

#include <memory>

#include "layers/feed_forward.h"
#include "moe/capacity.h"
#include "moe/exchange.h"
#include "moe/experts.h"
#include "moe/losses.h"
#include "moe/observation.h"
#include "moe/router.h"

namespace switchyard {

class MoeLayer : public FeedForward {
 public:
  struct Saved : FeedForward::Saved {
    Routing routing;
    RoutingStatistics statistics;
    TensorView counted;  // int32 [T, K]: choices before drops that losses and metrics see
    TensorView kept;     // int32 [T, K]
    ExchangePlan plan;
    TensorView received;  // [rows here, D]
    Experts::Saved experts;
    TensorView returned;  // [rows sent, D]
  };

  //   name    "encoder.block.1.moe"
  //   layer   see layer_id
  MoeLayer(std::string name, uint16_t layer, std::unique_ptr<Router> router,
           std::unique_ptr<Experts> experts, const CapacityRule& capacity,
           const AuxiliaryLosses& losses);

  std::unique_ptr<FeedForward::Saved> make_saved() const override;
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                     FeedForward::Saved& saved) override;
  void backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                const FeedForward::Saved& saved, TensorView dy, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override;

  // Reads back what the forward pass behind `saved` did and adds it to observation(). Once for each
  // micro-batch, after backward; local, waits for the stream.
  void observe(LayerContext& ctx, const TokenRows& rows, const FeedForward::Saved& saved);
  MoeObservation& observation() { return observation_; }

  const std::string& name() const { return name_; }
  const ExpertRange& local_experts() const { return experts_->range(); }

 private:
  RouterInput router_input(const TokenRows& rows, TensorView x) const;
  // The choices [T, K] of real tokens, -1 for padding: losses and metrics leave padding out even
  // where it is routed. In `arena` if they differ.
  TensorView without_padding(LayerContext& ctx, const TokenRows& rows, TensorView choices,
                             Arena& arena) const;
  void observe_routing(LayerContext& ctx, const TokenRows& rows, const Saved& saved);
  void observe_labels(LayerContext& ctx, const TokenRows& rows, const Saved& saved);
  void observe_drops(LayerContext& ctx, const TokenRows& rows, const Saved& saved);
  int64_t experts() const { return experts_->range().total; }

  std::string name_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<Experts> experts_;
  Exchange exchange_;
  CapacityRule capacity_;
  AuxiliaryLosses losses_;
  MoeObservation observation_;
};

}  // namespace switchyard
