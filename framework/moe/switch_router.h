// The Switch router (Fedus, Zoph, Shazeer 2021): each token goes to the argmax of a softmax over
// the experts, and its output is weighted by that probability, not renormalised. Always in float32.
#pragma once

#include "config/choice.h"
#include "moe/router.h"

namespace switchyard {

struct SwitchRouterOptions : OptionsOf<SwitchRouterOptions> {
  double jitter = 0.01;

  void describe(Fields& f) override;
};

class SwitchRouter : public Router {
 public:
  //   name        "encoder.block.1.moe.router": weight `name` [E, D], truncated normal with
  //   deviation
  //               sqrt(init_scale / D)
  //   layer       keys the jitter, see layer_id
  SwitchRouter(const std::string& name, const SwitchRouterOptions& options, int64_t experts,
               int64_t d_model, double init_scale, uint16_t layer, DType dtype, Memory& memory,
               uint64_t seed);

  int64_t choices() const override { return 1; }
  Routing forward(LayerContext& ctx, const RouterInput& input, TensorView decided) override;
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                TensorView dweight, TensorView dprobs, TensorView dlogits, TensorView dx) override;
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  bool jitters(const LayerContext& ctx) const { return ctx.training && jitter_ > 0; }

  double jitter_;
  uint16_t layer_;
  Weight gate_;
};

}  // namespace switchyard
