// Hidden states to vocabulary logits and their cross-entropy. Tied to an embedding table, the
// hidden states are scaled by D^-1/2 first (Mesh-TensorFlow, Hugging Face); untied, they aren't.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

// What training adds to the cross-entropy; see CrossEntropy.
struct LossOptions {
  double label_smoothing = 0;
  double output_z = 0;  // its z
};

class LmHead : public Module {
 public:
  struct Saved {
    TensorView h;         // [T, D], scaled where tied
    TensorView dlogits;   // [T, V]
    TensorView output_z;  // float64 [T]: z-losses; absent where output_z is 0 and in evaluation
  };

  // Tied to `table` [V, D], which someone else owns and lists.
  explicit LmHead(Weight& table, const LossOptions& options = {});
  // With a weight `name` [V, D] of its own, truncated normal with deviation sqrt(init_scale / D).
  LmHead(const std::string& name, int64_t vocabulary, int64_t d_model, double init_scale,
         DType dtype, Memory& memory, uint64_t seed, const LossOptions& options = {});

  // Returns [T, V] in ctx.saved.
  TensorView logits(LayerContext& ctx, TensorView h, Saved& saved);
  // Plain cross-entropy of each target. In training keeps for backward the gradient of
  // gradient_scale * the sum of what is trained on, smoothing and z-losses included.
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
  LossOptions options_;
};

}  // namespace switchyard
