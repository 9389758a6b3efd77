// Balanced assignment (S-BASE, Clark 2022; after BASE, Lewis 2021): in training a routing group's
// tokens go to the best experts of an assignment that gives every expert its share; elsewhere each
// goes to its own best. The assignment only chooses: weights come from the logits.
#pragma once

#include "moe/choice_weights.h"
#include "moe/gate.h"

namespace switchyard {

struct SinkhornRouterOptions : OptionsOf<SinkhornRouterOptions, RouterOptions> {
  int64_t top_k = 1;
  int64_t iterations = 8;

  void describe(Fields& f) override;
  int64_t experts_per_token() const override { return top_k; }
};

class SinkhornRouter : public Router {
 public:
  // Weight `place.name` [E, D].
  SinkhornRouter(const SinkhornRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return options_.top_k; }
  std::unique_ptr<Routing> make_routing() const override;
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override { gate_.collect_weights(weights); }

 private:
  bool uses_sigmoid() const { return options_.top_k == 1; }

  SinkhornRouterOptions options_;
  Gate gate_;
  ChoiceWeights weights_{.normalize = false};
};

}  // namespace switchyard
