// Two levels of gates (Jordan 1994; Shazeer 2017, appendix B): a first gate chooses groups of
// consecutive experts, then in each of these the group's own gate chooses experts. A choice weighs
// the product of the two gates' weights.
#pragma once

#include "moe/choice_weights.h"
#include "moe/gate.h"

namespace switchyard {

struct GateGroupsOptions {
  int64_t count = 4, top = 2;

  void describe(Fields& f);
};

struct HierarchicalRouterOptions : OptionsOf<HierarchicalRouterOptions, RouterOptions> {
  int64_t top_k = 4;
  GateGroupsOptions groups;
  bool normalize = true;

  void describe(Fields& f) override;
  int64_t experts_per_token() const override { return top_k; }
};

class HierarchicalRouter : public Router {
 public:
  // Weights `place.name`.groups [groups, D] and `place.name` [E, D], the gates of all groups.
  HierarchicalRouter(const HierarchicalRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return options_.top_k; }
  int64_t group_experts() const override { return experts_ / options_.groups.count; }
  std::unique_ptr<Routing> make_routing() const override;
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  // Not possible: an expert of another group would have no weight in its gate.
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  // int32 [T, K] in ctx.decisions.
  TensorView choose(LayerContext& ctx, const RouterInput& input, TensorView group_probs,
                    TensorView inner_probs) const;
  // A row for each group that a token chose, of its experts there: [T * k1, k2].
  TensorView by_group(TensorView choices) const;

  HierarchicalRouterOptions options_;
  int64_t experts_;
  Gate group_gate_, gate_;
  ChoiceWeights weights_;
};

}  // namespace switchyard
