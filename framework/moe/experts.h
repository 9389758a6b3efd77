// The experts of one layer that this rank holds: L feed-forward networks over ragged rows, computed
// by grouped products; or a slice of their inner width, with the other ranks that hold the same
// ones. They don't know tokens or routers.
#pragma once

#include <optional>

#include "layers/initialise.h"
#include "layers/layer_context.h"
#include "layers/module.h"
#include "moe/slice_exchange.h"

namespace switchyard {

class Experts : public Module {
 public:
  struct Options {
    int64_t d_model = 0, d_ff = 0;
    Activation activation = Activation::kRelu;
    bool gated = false;    // activation(wg x) * (wi x), see DenseFfn
    double dropout = 0.0;  // between activation and second product, in training
    uint16_t layer = 0;    // keys the dropout, see layer_id
    Initialisation init;
    // Of `slices` equal parts of F this rank holds number `slice`: its place in Groups::tensor.
    int slice = 0, slices = 1;
  };
  struct Saved {
    // [rows, F / slices], compact order; rows of all slices. See DenseFfn::Saved.
    TensorView pre_activation, up, hidden;
    SlicePlan plan;  // where slices > 1
  };

  //   name   "encoder.block.1.moe.expert": weights name.*.wi [L, F / slices, D], name.*.wo
  //          [L, D, F / slices] and, where gated, name.*.wg [L, F / slices, D]
  //   range  the experts held here; none is allowed
  Experts(const std::string& name, const ExpertRange& range, const Options& options, DType dtype,
          Memory& memory, uint64_t seed);

  // Whether forward and backward need the rows' keys.
  bool drops(const LayerContext& ctx) const { return ctx.training && options_.dropout > 0; }

  // Where slices > 1 all ranks of Groups::tensor call forward and backward, each with its rows.
  // returns  [rows, D] in `arena`, standing where the inputs stand (kIndexed order)
  //   x            [rows, D], read in kIndexed order
  //   row_keys     int64 [rows], compact order, see random_row; absent unless drops(ctx)
  //   saved_arena  where `saved` stands
  TensorView forward(LayerContext& ctx, const RaggedRows& rows, TensorView x, TensorView row_keys,
                     Saved& saved, Arena& saved_arena, Arena& arena) const;
  // Only what backward needs of a forward that was not kept.
  void compute_hidden(LayerContext& ctx, const RaggedRows& rows, TensorView x, TensorView row_keys,
                      Saved& saved, Arena& saved_arena) const;
  // Adds to the weights' gradients.
  //   x, dy    [rows, D], kIndexed order
  //   returns  d(loss)/dx [rows, D] in `arena`, kIndexed order
  TensorView backward(LayerContext& ctx, const RaggedRows& rows, TensorView x, TensorView row_keys,
                      const Saved& saved, TensorView dy, Arena& arena);
  void collect_weights(std::vector<Weight*>& weights) override;

  const ExpertRange& range() const { return wi_.experts(); }

 private:
  bool is_sliced() const { return options_.slices > 1; }
  // What the products see: this rank's rows, or those of all ranks with slices of these experts.
  struct Inputs {
    RaggedRows rows;
    TensorView x, row_keys;
  };

  // Makes room in `saved`, after the ranks of a place have told each other their rows.
  void lay_out(LayerContext& ctx, const RaggedRows& rows, DType dtype, TensorView row_keys,
               Saved& saved, Arena& saved_arena) const;
  // In ctx.scratch what comes from other ranks.
  Inputs gather(LayerContext& ctx, const RaggedRows& rows, TensorView x, TensorView row_keys,
                const Saved& saved) const;
  void fill_hidden(LayerContext& ctx, const Inputs& in, const Saved& saved) const;
  // From d(loss)/d(hidden), which it overwrites, to the gradients of wi and wg and d(loss)/dx.
  void hidden_backward(LayerContext& ctx, const Inputs& in, const Saved& saved, TensorView dhidden,
                       TensorView dx);
  // x = dropout(x), or of its gradient.
  void drop(LayerContext& ctx, TensorView row_keys, TensorView x) const;

  Options options_;
  SliceExchange slices_;
  Weight wi_, wo_;
  std::optional<Weight> wg_;  // where gated
};

}  // namespace switchyard
