// Hidden states to vocabulary logits and their cross-entropy. T5 and Switch scale the hidden states
// by D^-1/2 first where the weight is the embedding table, others never do.
#pragma once

#include "layers/initialise.h"
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
  // What a loss in training leaves behind; in evaluation both are absent.
  struct Saved {
    TensorView dh;        // [T, D], gradient of the hidden states
    TensorView output_z;  // float64 [T]: z-losses; absent, too, where output_z is 0
  };

  // Tied to `table` [V, D], which someone else owns and lists.
  //   scale  of the hidden states; see t5_scale
  LmHead(Weight& table, double scale, const LossOptions& options = {});
  // With a weight `name` [V, D] of its own, and no scale.
  LmHead(const std::string& name, int64_t vocabulary, int64_t d_model, const Initialisation& init,
         DType dtype, Memory& memory, uint64_t seed, const LossOptions& options = {});

  // D^-1/2 of a table [V, D] (Mesh-TensorFlow, Hugging Face).
  static double t5_scale(const Weight& table);

  // Returns [T, V] in ctx.saved.
  TensorView logits(LayerContext& ctx, TensorView h);
  // Plain cross-entropy of each target. In training also backward: the gradient of gradient_scale *
  // the sum of what is trained on, smoothing and z-losses included, goes into saved.dh and the
  // weight's sink, so that logits need not be kept.
  //   targets  int32 [T], kIgnoredTarget where there is no loss
  //   returns  float64 [T] in ctx.saved
  TensorView loss(LayerContext& ctx, TensorView h, TensorView targets, LeafOffsets leaves,
                  double gradient_scale, Saved& saved);
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  // h times the scale: itself, or in ctx.scratch.
  TensorView scaled(LayerContext& ctx, TensorView h) const;

  std::unique_ptr<Weight> own_;
  Weight* weight_;
  double scale_;
  LossOptions options_;
};

}  // namespace switchyard
