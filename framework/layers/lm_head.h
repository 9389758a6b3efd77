// Hidden states to vocabulary logits and their cross-entropy. Tied to an embedding table, the
// hidden states are scaled by D^-1/2 first (Mesh-TensorFlow, Hugging Face); untied, they aren't.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

class LmHead : public Module {
 public:
  struct Saved {
    TensorView h;        // [T, D], scaled where tied
    TensorView dlogits;  // [T, V]
  };

  // Tied to `table` [V, D], which someone else owns and lists.
  explicit LmHead(Weight& table);
  // With a weight `name` [V, D] of its own, truncated normal with deviation sqrt(init_scale / D).
  LmHead(const std::string& name, int64_t vocabulary, int64_t d_model, double init_scale,
         DType dtype, Memory& memory, uint64_t seed);

  // Returns [T, V] in ctx.saved.
  TensorView logits(LayerContext& ctx, TensorView h, Saved& saved);
  // Cross-entropy of each target; keeps the gradient of gradient_scale * their sum for backward.
  //   targets  int32 [T], kIgnoredTarget where there is no loss
  //   returns  float64 [T] in ctx.saved
  TensorView loss(LayerContext& ctx, TensorView h, TensorView targets, double gradient_scale,
                  Saved& saved);
  // Overwrites dh [T, D].
  void backward(LayerContext& ctx, LeafOffsets leaves, const Saved& saved, TensorView dh);
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  std::unique_ptr<Weight> own_;
  Weight* weight_;
  double scale_;
};

}  // namespace switchyard
