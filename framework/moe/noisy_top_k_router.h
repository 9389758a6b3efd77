// Noisy top-k gating (Shazeer 2017, eq. 3 to 5): each token goes to the K experts of the highest
// logits after noise whose size a second gate learns; weights are a softmax over these K.
#pragma once

#include "moe/choice_weights.h"
#include "moe/gate.h"

namespace switchyard {

struct NoisyTopKRouterOptions : OptionsOf<NoisyTopKRouterOptions, RouterOptions> {
  int64_t top_k = 2;

  void describe(Fields& f) override;
  int64_t experts_per_token() const override { return top_k; }
  bool is_random() const override { return true; }
};

class NoisyTopKRouter : public Router {
 public:
  // Weights `place.name` and `place.name`.noise [E, D], the latter 0 at first.
  NoisyTopKRouter(const NoisyTopKRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return top_k_; }
  std::unique_ptr<Routing> make_routing() const override;
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  RandomRows noise(const LayerContext& ctx, const TokenRows& rows) const {
    return ctx.random(rows, layer_, Purpose::kRouterNoise);
  }

  int64_t top_k_;
  uint16_t layer_;
  Gate gate_, noise_gate_;
  ChoiceWeights weights_;  // of a softmax over all, which is the softmax over the K
};

}  // namespace switchyard
