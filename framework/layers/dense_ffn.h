// Two linear layers with an activation between them: wo(dropout(activation(wi x))), T5 (Raffel
// 2020); or gated: wo(dropout(activation(wg x) * (wi x))) (Shazeer 2020).
#pragma once

#include <optional>

#include "layers/feed_forward.h"
#include "layers/initialise.h"

namespace switchyard {

class DenseFfn : public FeedForward {
 public:
  struct Options {
    int64_t d_model = 0, d_ff = 0;
    Activation activation = Activation::kRelu;
    bool gated = false;
    double dropout = 0.0;
    uint16_t layer = 0;  // see layer_id
    Initialisation init;
  };
  struct Saved : FeedForward::Saved {
    TensorView pre_activation;  // [T, F]: wi x, or the gate wg x
    TensorView up;              // [T, F]: wi x beside a gate
    TensorView hidden;          // [T, F]
  };

  //   name  "encoder.block.0.ffn": weights name.wi [F, D], name.wo [D, F] and, where gated,
  //        name.wg [F, D]
  DenseFfn(const std::string& name, const Options& options, DType dtype, Memory& memory,
           uint64_t seed);

  std::unique_ptr<FeedForward::Saved> make_saved() const override;
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                     FeedForward::Saved& saved) override;
  void backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                const FeedForward::Saved& saved, TensorView dy, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  Options options_;
  Weight wi_, wo_;
  std::optional<Weight> wg_;  // where gated
};

}  // namespace switchyard
