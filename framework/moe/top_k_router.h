// Each token goes to the K experts of the highest scores (Shazeer 2017; Mixtral, OLMoE, Qwen,
// DeepSeek); with K = 1 and a softmax not renormalised this is the Switch router (Fedus 2021).
#pragma once

#include <optional>

#include "moe/choice_weights.h"
#include "moe/gate.h"

namespace switchyard {

struct ExpertGroupsOptions {
  int64_t count = 1, top = 1;

  void describe(Fields& f);
};

struct SwitchRouterOptions : OptionsOf<SwitchRouterOptions, RouterOptions> {
  double jitter = 0.01;

  void describe(Fields& f) override;
  bool is_random() const override { return jitter > 0; }
};

struct TopKRouterOptions : OptionsOf<TopKRouterOptions, RouterOptions> {
  enum class Score : uint8_t { kSoftmax, kSigmoid };

  int64_t top_k = 2;
  Score score = Score::kSoftmax;
  bool normalize = true;
  double scale = 1.0;
  ExpertGroupsOptions groups;
  double bias_update_rate = 0.0;
  double jitter = 0.0;

  TopKRouterOptions() = default;
  explicit TopKRouterOptions(const SwitchRouterOptions& of_switch)
      : top_k(1), normalize(false), jitter(of_switch.jitter) {}

  void describe(Fields& f) override;
  bool is_random() const override { return jitter > 0; }
  int64_t experts_per_token() const override { return top_k; }
};

class TopKRouter : public Router {
 public:
  // Weights `place.name` [E, D] and, where a bias balances the load, `place.name`.bias [E].
  TopKRouter(const TopKRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return options_.top_k; }
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                const RoutingGradient& gradient, TensorView dx) override;
  // The bias of an expert that was chosen more often than the mean falls by bias_update_rate, of
  // one chosen less it rises; then the mean is taken off (Wang 2024, loss-free balancing).
  void balance(LayerContext& ctx, std::span<const int64_t> chosen) override;
  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  bool uses_sigmoid() const { return options_.score == TopKRouterOptions::Score::kSigmoid; }
  // int32 [T, K] in ctx.decisions.
  TensorView choose(LayerContext& ctx, const RouterInput& input, TensorView scores) const;

  TopKRouterOptions options_;
  ChoiceWeights weights_;
  Gate gate_;
  std::optional<Weight> bias_;
};

}  // namespace switchyard
