// The experts of one layer that this rank holds: L feed-forward networks over ragged rows, computed
// by grouped products. They don't know tokens, routers or other ranks.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

class Experts : public Module {
 public:
  struct Saved {
    TensorView pre_activation, hidden;  // [rows, F], compact order
  };

  //   name        "encoder.block.1.moe.expert": weights name.*.wi [L, F, D] and name.*.wo [L, D,
  //   F],
  //               truncated normal with deviation sqrt(init_scale / fan in)
  //   range       the experts held here; none is allowed
  Experts(const std::string& name, const ExpertRange& range, int64_t d_model, int64_t d_ff,
          Activation activation, double init_scale, DType dtype, Memory& memory, uint64_t seed);

  // returns  [rows, D] in `arena`, standing where the inputs stand (kIndexed order)
  //   x  [rows, D], read in kIndexed order
  TensorView forward(LayerContext& ctx, const RaggedRows& rows, TensorView x, Saved& saved,
                     Arena& arena);
  // Adds to the weights' gradients.
  //   x, dy    [rows, D], kIndexed order
  //   returns  d(loss)/dx [rows, D] in `arena`, kIndexed order
  TensorView backward(LayerContext& ctx, const RaggedRows& rows, TensorView x, const Saved& saved,
                      TensorView dy, Arena& arena);
  void collect_weights(std::vector<Weight*>& weights) override;

  const ExpertRange& range() const { return wi_.experts(); }

 private:
  Activation activation_;
  Weight wi_, wo_;
};

}  // namespace switchyard
