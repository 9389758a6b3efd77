// GShard's router (Lepikhin 2020, algorithm 1): each token goes to its two best experts, weighted
// by a softmax renormalised over the two; in training the second one is skipped at random, the less
// it weighs the more often.
#pragma once

#include "moe/choice_weights.h"
#include "moe/gate.h"

namespace switchyard {

struct GShardRouterOptions : OptionsOf<GShardRouterOptions, RouterOptions> {
  void describe(Fields&) override {}
  int64_t experts_per_token() const override { return 2; }
  bool is_random() const override { return true; }
};

class GShardRouter : public Router {
 public:
  // Weight `place.name` [E, D].
  GShardRouter(const GShardRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return 2; }
  std::unique_ptr<Routing> make_routing() const override;
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override { gate_.collect_weights(weights); }

 private:
  uint16_t layer_;
  Gate gate_;
};

}  // namespace switchyard
