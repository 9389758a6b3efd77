// The linear layer in front of a router's choice, always in the accurate dtype (selective
// precision, Fedus 2021), with the noise on its input.
#pragma once

#include "moe/router.h"

namespace switchyard {

class Gate : public Module {
 public:
  // Weight `name` [outputs, D].
  //   jitter  epsilon: in training the input is multiplied by uniform noise in [1 - epsilon,
  //           1 + epsilon]
  Gate(const std::string& name, const RouterPlace& place, int64_t outputs, double jitter);

  // What the gate sees of x: [T, D] of the accurate dtype, x itself or in ctx.saved. The experts
  // see the token as it is (Mesh-TensorFlow).
  TensorView input(LayerContext& ctx, const RouterInput& input) const;
  // [T, outputs] in ctx.saved.
  TensorView logits(LayerContext& ctx, TensorView gate_input) const;
  // Adds to the weight's gradient, and d(loss)/dx to dx [T, D].
  void backward(LayerContext& ctx, const RouterInput& input, TensorView gate_input,
                TensorView dlogits, TensorView dx);
  void collect_weights(std::vector<Weight*>& weights) override { weights.push_back(&weight_); }

 private:
  bool jitters(const LayerContext& ctx) const { return ctx.training && jitter_ > 0; }
  RandomRows noise(const LayerContext& ctx, const TokenRows& rows) const {
    return ctx.random(rows, layer_, Purpose::kJitter);
  }

  double jitter_;
  uint16_t layer_;
  Weight weight_;
};

}  // namespace switchyard
