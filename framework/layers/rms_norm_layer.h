// RMS normalisation with a learned scale; see ops/norm.h for the mathematics.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

class RmsNormLayer : public Module {
 public:
  struct Saved {
    TensorView x;            // [T, D]: the input, borrowed
    TensorView inverse_rms;  // [T]
  };

  // Scale [D], starting at ones.
  RmsNormLayer(const std::string& name, int64_t d_model, double epsilon, DType dtype,
               Memory& memory, NormRounding rounding = NormRounding::kOnce);

  // Returns [T, D] in ctx.saved; x must live until backward.
  TensorView forward(LayerContext& ctx, TensorView x, Saved& saved);
  // Writes d(loss)/dx into dx, or adds it.
  void backward(LayerContext& ctx, LeafOffsets leaves, const Saved& saved, TensorView dy,
                TensorView dx, Write write);
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  double epsilon_;
  NormRounding rounding_;
  Weight scale_;
};

}  // namespace switchyard
