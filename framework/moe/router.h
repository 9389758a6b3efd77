// A router decides which experts see which token. It moves nothing (see exchange.h) and shares out
// no room (see capacity.h). Shape letters: docs/shapes.md.
#pragma once

#include "config/choice.h"
#include "layers/initialise.h"
#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

struct RouterInput {
  TensorView x;           // [T, D]
  const TokenRows& rows;  // ids, global indices, padding, routing groups of the T tokens
  TensorView routed;      // uint8 [T]: tokens to route; absent: all, padding too
  int64_t capacity = 0;   // C of a routing group, for routers whose experts choose
};

// What a router decided for one micro-batch; a router that keeps more for backward derives from it.
// Probabilities are in the accurate dtype of x (float32; float64 in float64 runs). `chosen` and
// what goes on, `expert`, outlive dropped activations: they stand in ctx.decisions, all else in
// ctx.saved.
struct Routing {
  virtual ~Routing() = default;

  TensorView chosen;      // int32 [T, K]: what losses and metrics count; -1: none
  TensorView expert;      // int32 [T, K]: of `chosen`, what goes on to capacity
  TensorView weight;      // [T, K]: share of each choice in the output, >= 0
  TensorView scores;      // [T, E]: what the choice was made by, bias and limits aside
  TensorView probs;       // [T, E]: the scores as a distribution over the experts
  TensorView logits;      // [T, E]; absent where there is no gate
  TensorView gate_input;  // [T, D]: what the gate saw (jittered x in training)
  // [T, E]: how likely each expert is to be chosen once more under new noise, for the load loss;
  // absent where the router has no noise and in evaluation.
  TensorView smooth_load;
};

// d(loss)/d(...) of a Routing's tensors, all usable as work space.
struct RoutingGradient {
  TensorView dweight;       // from combine and the importance loss
  TensorView dprobs;        // from the load-balance loss
  TensorView dlogits;       // from router_z
  TensorView dsmooth_load;  // from the load loss; absent where smooth_load is
  TensorView dslots;        // [B * N, D], see slot_router.h; absent for all other routers
};

// Where a router stands and what it is made with.
struct RouterPlace {
  std::string name;  // "encoder.block.1.moe.router"
  uint16_t layer;    // keys its random numbers, see layer_id
  int64_t experts, d_model;
  Initial initial;  // of its gates
  DType dtype;      // of its weights
  Memory& memory;
  uint64_t seed;
  int64_t vocabulary = 0;  // token ids are below it; for routers that look at them
  int64_t slots = 0;       // of an expert in a sequence, unless options say; see slot_router.h
};

// The options of a router: `router: {type: ..., ...}`.
class RouterOptions : public Options {
 public:
  // Whether training draws random numbers.
  virtual bool is_random() const { return false; }
  // K; a layer must have as many experts.
  virtual int64_t experts_per_token() const { return 1; }
};

class Router : public Module {
 public:
  virtual int64_t choices() const = 0;  // K: columns of Routing::chosen
  // Experts per token on the average: K of the capacity formula.
  virtual int64_t experts_per_token() const { return choices(); }
  // Where one gate chooses groups of consecutive experts, experts of a group: the load is balanced
  // half among groups and half among all experts. 1: there are no such groups.
  virtual int64_t group_experts() const { return 1; }

  virtual std::unique_ptr<Routing> make_routing() const { return std::make_unique<Routing>(); }

  // Chooses experts for each token. Local: no communication. T may be 0. In training, noise is
  // keyed by the tokens' global indices, so the layout can't show.
  //   decided  int32 [T, K] or absent: `chosen` of an earlier forward, used instead of choosing
  virtual void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                       Routing& routing) = 0;

  // Lets choices land on other experts: their weights are then those of the experts landed on.
  //   landed  int32 [T, K] in ctx.decisions; -1: nowhere
  virtual void reroute(LayerContext& ctx, TensorView landed, Routing& routing) = 0;

  // Adds to the gates' gradients and adds d(loss)/dx, but for what came by way of the experts, to
  // dx [T, D].
  virtual void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                        const RoutingGradient& gradient, TensorView dx) = 0;

  // After each optimizer step, on every rank.
  //   chosen  [E] choices of each expert in the global batch, before drops
  virtual void balance(LayerContext&, std::span<const int64_t> /*chosen*/) {}
};

}  // namespace switchyard
