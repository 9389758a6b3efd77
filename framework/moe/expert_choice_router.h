// Expert choice (Zhou 2022): experts choose tokens. Each takes as many of a routing group's tokens
// as it has room for, those with the highest probability for it; a token may have no expert or all.
#pragma once

#include "moe/choice_weights.h"
#include "moe/gate.h"

namespace switchyard {

struct ExpertChoiceRouterOptions : OptionsOf<ExpertChoiceRouterOptions, RouterOptions> {
  int64_t top_k = 2;

  void describe(Fields& f) override;
  int64_t experts_per_token() const override { return top_k; }
};

class ExpertChoiceRouter : public Router {
 public:
  // Weight `place.name` [E, D].
  ExpertChoiceRouter(const ExpertChoiceRouterOptions& options, const RouterPlace& place);

  // A token's k-th choice is expert k.
  int64_t choices() const override { return experts_; }
  int64_t experts_per_token() const override { return top_k_; }
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  // There is nothing to reroute: experts take no more than they have room for.
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override { gate_.collect_weights(weights); }

 private:
  int64_t top_k_, experts_;
  Gate gate_;
  ChoiceWeights weights_{.normalize = false};
};

}  // namespace switchyard
