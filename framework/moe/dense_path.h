// What every token of a mixture layer goes through besides: shared experts, added to the routed
// ones' output (DeepSeekMoE), or mixed with it by a learned two-way softmax (PR-MoE, Rajbhandari
// 2022).
#pragma once

#include <memory>
#include <optional>

#include "layers/feed_forward.h"
#include "moe/gate.h"

namespace switchyard {

class DensePath : public Module {
 public:
  struct Saved {
    std::unique_ptr<FeedForward::Saved> dense;
    // With a softmax only.
    TensorView both;               // [2T, D]: the mixture's output, then the dense network's
    TensorView position, source;   // int32 [T, 2], [2T]: of a token's two rows
    TensorView gate_input, share;  // [T, D]; [T, 2]
  };

  // Adds; or, given the place of a gate (its weight is `place.name` [2, D]), mixes.
  DensePath(std::unique_ptr<FeedForward> dense, const std::optional<RouterPlace>& place);

  Saved make_saved() const;
  // Returns the layer's output [T, D] in ctx.saved.
  //   x, routed  [T, D]: the layer's input, and what its mixture makes of it
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView x, TensorView routed,
                     Saved& saved);
  // Overwrites drouted [T, D], and dx [T, D] with the part of d(loss)/dx that came this way;
  // drouted may be dy.
  void backward(LayerContext& ctx, const TokenRows& rows, TensorView x, const Saved& saved,
                TensorView dy, TensorView drouted, TensorView dx);
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  std::unique_ptr<FeedForward> dense_;
  std::optional<Gate> gate_;
};

}  // namespace switchyard
