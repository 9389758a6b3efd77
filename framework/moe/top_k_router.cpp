#include "moe/top_k_router.h"

#include <numeric>

#include "config/fields.h"
#include "ops/host_values.h"

namespace switchyard {

static void describe_jitter(Fields& f, double& jitter) {
  f.real("jitter", jitter, {0.0, 0.5}, "ratio",
         "Multiplies the gate's input by uniform noise in [1 - jitter, 1 + jitter], in training.");
}

void SwitchRouterOptions::describe(Fields& f) { describe_jitter(f, jitter); }

void ExpertGroupsOptions::describe(Fields& f) {
  f.integer("count", count, {1, 4096}, "groups", "Equal groups of consecutive experts.");
  f.integer("top", top, {1, 4096}, "groups",
            "Groups that a token may choose from: those with the highest sums of their top_k / top "
            "best scores, biases included.");
  f.inert_if(count == 1, {"top"}, "there is one group");
}

void TopKRouterOptions::describe(Fields& f) {
  f.integer("top_k", top_k, {1, 256}, "experts", "Experts that each token goes to.");
  f.one_of("score", score, {{Score::kSoftmax, "softmax"}, {Score::kSigmoid, "sigmoid"}},
           "Of the gate's logits; sigmoid scores experts one by one (DeepSeek-V3).");
  f.boolean("normalize", normalize,
            "Whether weights are divided by the sum of the chosen scores (Mixtral: true, OLMoE: "
            "false), before any drop.");
  f.real("scale", scale, {1e-3, 1e3}, "ratio", "Multiplies the weights.");
  f.section("groups", groups, "Limits the choice to the best groups of experts (DeepSeek-V3).");
  f.real("bias_update_rate", bias_update_rate, {0.0, 1.0}, "score",
         "Balances without a loss: after each step a bias on each expert's score rises or falls by "
         "this much; it has a say in the choice, never in the weight; 0: no bias.");
  describe_jitter(f, jitter);
}

TopKRouter::TopKRouter(const TopKRouterOptions& options, const RouterPlace& place)
    : options_(options),
      weights_{.normalize = options.normalize, .scale = options.scale},
      gate_(place.name, place, place.experts, options.jitter) {
  if (options.bias_update_rate == 0) return;
  bias_.emplace(place.name + ".bias", WeightRole::kBalanceBias, place.dtype, Shape{place.experts},
                place.memory);
  initialise(*bias_, Initial::constant(0), place.seed);
}

TensorView TopKRouter::choose(LayerContext& ctx, const RouterInput& input,
                              TensorView scores) const {
  const TensorView chosen =
      ctx.decisions.allocate(DType::kInt32, {scores.shape()[0], options_.top_k});
  const ScratchScope scope(ctx.scratch);
  if (bias_) {
    const TensorView biased = ctx.scratch.allocate(scores.dtype(), scores.shape());
    add_row(ctx, scores, bias_->master(), biased);
    scores = biased;
  }
  if (options_.groups.count > 1) {
    const TensorView limited = ctx.scratch.allocate(scores.dtype(), scores.shape());
    keep_best_groups(ctx, scores, options_.groups.count, options_.groups.top,
                     options_.top_k / options_.groups.top, limited);
    scores = limited;
  }
  choose_top_k(ctx, scores, input.routed, chosen);
  return chosen;
}

void TopKRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                         Routing& routing) {
  routing.gate_input = gate_.input(ctx, input);
  routing.logits = gate_.logits(ctx, routing.gate_input);
  routing.scores = ctx.saved.allocate(routing.logits.dtype(), routing.logits.shape());
  if (uses_sigmoid()) {
    sigmoid(ctx, routing.logits, routing.scores);
    routing.probs = ctx.saved.allocate(routing.logits.dtype(), routing.logits.shape());
    normalize_rows(ctx, routing.scores, 1.0, routing.probs);
  } else {
    softmax(ctx, routing.logits, routing.scores);
    routing.probs = routing.scores;
  }
  routing.chosen = decided.absent() ? choose(ctx, input, routing.scores) : decided;
  routing.expert = routing.chosen;
  routing.weight = ctx.saved.allocate(routing.logits.dtype(), {input.x.shape()[0], options_.top_k});
  weights_.weigh(ctx, routing.scores, routing.expert, routing.weight);
}

void TopKRouter::reroute(LayerContext& ctx, TensorView landed, Routing& routing) {
  routing.expert = landed;
  weights_.weigh(ctx, routing.scores, routing.expert, routing.weight);
}

void TopKRouter::backward(LayerContext& ctx, const RouterInput& input, const Routing& routing,
                          const RoutingGradient& gradient, TensorView dx) {
  TensorView dscores = gradient.dprobs;
  if (uses_sigmoid()) {
    normalize_rows_backward(ctx, routing.scores, 1.0, gradient.dprobs, dscores, Write::kOverwrite);
  }
  weights_.backward(ctx, routing.scores, routing.expert, gradient.dweight, dscores);
  if (uses_sigmoid()) {
    sigmoid_backward(ctx, routing.scores, dscores, gradient.dlogits, Write::kAccumulate);
  } else {
    softmax_backward(ctx, routing.scores, dscores, gradient.dlogits, Write::kAccumulate);
  }
  gate_.backward(ctx, input, routing.gate_input, gradient.dlogits, dx);
}

void TopKRouter::balance(LayerContext& ctx, std::span<const int64_t> chosen) {
  if (!bias_) return;
  const int64_t total = std::accumulate(chosen.begin(), chosen.end(), int64_t{0});
  const auto experts = static_cast<int64_t>(chosen.size());
  const auto update = [&](auto zero) {
    using T = decltype(zero);
    ReusedVector<T> bias = host_values<T>(ctx, bias_->master());
    double sum = 0;
    for (size_t e = 0; e < bias.size(); ++e) {
      const int64_t excess = chosen[e] * experts - total;
      const double direction = excess > 0 ? -1.0 : excess < 0 ? 1.0 : 0.0;
      bias[e] += static_cast<T>(options_.bias_update_rate * direction);
      sum += static_cast<double>(bias[e]);
    }
    for (T& of_expert : bias) of_expert -= static_cast<T>(sum / static_cast<double>(experts));
    upload(ctx, std::span<const T>(bias), bias_->master());
  };
  if (bias_->dtype() == DType::kFloat64) {
    update(double{});
  } else {
    update(float{});
  }
  bias_->master_changed();
}

void TopKRouter::collect_weights(std::vector<Weight*>& weights) {
  gate_.collect_weights(weights);
  if (bias_) weights.push_back(&*bias_);
}

}  // namespace switchyard
