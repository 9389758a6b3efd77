// The feed-forward half of a block: dense, or a mixture of experts. The config chooses per layer.
#pragma once

#include <memory>

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

class FeedForward : public Module {
 public:
  // What backward needs of one micro-batch; its tensors stand in ctx.saved.
  struct Saved {
    virtual ~Saved() = default;
  };
  virtual std::unique_ptr<Saved> make_saved() const = 0;

  // Every rank calls it, with zero rows too.
  //   x        [T, D]; must live until backward
  //   returns  [T, D] in ctx.saved
  virtual TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                             Saved& saved) = 0;
  // Overwrites dx [T, D]; adds to the weights' gradients.
  virtual void backward(LayerContext& ctx, const TokenRows& rows, TensorView x, const Saved& saved,
                        TensorView dy, TensorView dx) = 0;
};

}  // namespace switchyard
