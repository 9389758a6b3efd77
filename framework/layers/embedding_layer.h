// Token ids to rows of a table [V, D], no sqrt(D) factor (T5). The table may be shared by the
// encoder, the decoder and the head: one Weight, one sink.
#pragma once

#include "layers/initialise.h"
#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

class EmbeddingLayer : public Module {
 public:
  // Weight `name` [V, D], normal with deviation 1 where `init` sets none.
  EmbeddingLayer(const std::string& name, int64_t vocabulary, int64_t d_model,
                 const Initialisation& init, DType dtype, Memory& memory, uint64_t seed);

  // Returns [T, D] of `dtype` in ctx.saved.
  TensorView forward(LayerContext& ctx, const TokenRows& rows, DType dtype);
  void backward(LayerContext& ctx, const TokenRows& rows, TensorView dy);
  Weight& table() { return table_; }
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  Weight table_;
};

}  // namespace switchyard
