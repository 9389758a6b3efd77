// A router decides which experts see which token. It moves nothing (see exchange.h) and knows no
// capacity (see capacity.h). Shape letters: docs/shapes.md.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

struct RouterInput {
  TensorView x;           // [T, D]
  const TokenRows& rows;  // ids, global indices, padding, routing groups of the T tokens
  TensorView routed;      // uint8 [T]: tokens to route; absent: all, padding too
};

// Probabilities are in the accurate dtype of x (float32; float64 in float64 runs).
struct Routing {
  TensorView expert;      // int32 [T, K]: expert of each choice; -1 where there is none;
                          // in ctx.decisions, all else in ctx.saved
  TensorView weight;      // [T, K]: share of each choice in the output, >= 0
  TensorView probs;       // [T, E]: scores after the softmax
  TensorView logits;      // [T, E]
  TensorView gate_input;  // [T, D]: what the gate saw (jittered x in training)
};

class Router : public Module {
 public:
  virtual int64_t choices() const = 0;  // K

  // Chooses experts for each token. Local: no communication. T may be 0. In training, noise is
  // keyed by the tokens' global indices, so the layout can't show.
  //   decided  int32 [T, K] or absent: decisions of an earlier forward, used instead of choosing
  virtual Routing forward(LayerContext& ctx, const RouterInput& input, TensorView decided) = 0;

  // Lets choices land on other experts: `routing` is then as if forward() had chosen them.
  //   landed  int32 [T, K] in ctx.decisions; -1: nowhere
  virtual void reroute(LayerContext& ctx, TensorView landed, Routing& routing) = 0;

  // Adds to the gate's gradient and adds d(loss)/dx to dx [T, D].
  //   dweight  [T, K]: d(loss)/d(weight), from combine
  //   dprobs   [T, E]: d(loss)/d(probs), from the auxiliary losses; used as work space
  //   dlogits  [T, E]: d(loss)/d(logits), from the auxiliary losses; used as work space
  virtual void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                        TensorView dweight, TensorView dprobs, TensorView dlogits,
                        TensorView dx) = 0;
};

}  // namespace switchyard
