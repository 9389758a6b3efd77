// Multi-head attention with its four projections, for self-attention and cross-attention. T5's has
// no biases and no 1/sqrt(d) (folded into q's first values).
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

class AttentionLayer : public Module {
 public:
  struct Options {
    int64_t d_model = 0, d_kv = 0, heads = 0;
    double scale = 1.0;
    bool causal = false;
    double dropout = 0.0;  // on the attention weights
    Purpose dropout_purpose = Purpose::kAttentionDropout;
    uint16_t layer = 0;  // see layer_id
  };
  // Where queries and keys come from; for self-attention both are the same.
  struct Source {
    const TokenRows& rows;
    TensorView x;  // [T, D], must live until backward
  };
  struct Saved {
    TensorView q, k, v, out;  // [B, S, H, d]
    TensorView log_sum_exp;   // [B, H, Sq]
  };

  // Weights name.q, name.k, name.v [H*d, D] and name.o [D, H*d], initialised as Mesh-TensorFlow:
  // normal with deviations (D*d)^-1/2, D^-1/2, D^-1/2, (H*d)^-1/2.
  AttentionLayer(const std::string& name, const Options& options, DType dtype, Memory& memory,
                 uint64_t seed);

  //   distance_bias  [H, Sq + Sk - 1] or absent
  //   returns        [Tq, D] in ctx.saved
  TensorView forward(LayerContext& ctx, const Source& queries, const Source& keys,
                     TensorView distance_bias, Saved& saved);

  // Adds to the weights' gradients. Where queries and keys are one tensor, dkeys may be dqueries:
  // the sum is what stands there then.
  //   dqueries        [Tq, D]: overwritten
  //   dkeys           [Tk, D]: written as `keys_write` says, after dqueries
  //   ddistance_bias  [leaves, H, Sq + Sk - 1] or absent: overwritten
  void backward(LayerContext& ctx, const Source& queries, const Source& keys,
                TensorView distance_bias, const Saved& saved, TensorView dy, TensorView dqueries,
                TensorView dkeys, Write keys_write, TensorView ddistance_bias);

  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  AttentionInput input(const LayerContext& ctx, const Source& queries, const Source& keys,
                       TensorView distance_bias, const Saved& saved) const;

  Options options_;
  Weight q_, k_, v_, o_;
};

}  // namespace switchyard
