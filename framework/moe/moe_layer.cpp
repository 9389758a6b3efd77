#include "moe/moe_layer.h"

namespace switchyard {

MoeLayer::MoeLayer(std::string name, uint16_t layer, std::unique_ptr<Router> router,
                   std::unique_ptr<Experts> experts, const CapacityRule& capacity,
                   const AuxiliaryLosses& losses, Exchange::Options exchange)
    : name_(std::move(name)),
      layer_(layer),
      router_(std::move(router)),
      experts_(layer, std::move(experts), std::move(exchange)),
      capacity_(capacity),
      losses_(losses),
      observation_(local_experts().total, router_->choices()) {}

std::unique_ptr<FeedForward::Saved> MoeLayer::make_saved() const {
  return std::make_unique<Saved>();
}

RouterInput MoeLayer::router_input(const TokenRows& rows, TensorView x) const {
  return {x, rows, routes_padding() ? TensorView() : rows.real};
}

TensorView MoeLayer::without_padding(LayerContext& ctx, const TokenRows& rows, TensorView choices,
                                     Arena& arena) const {
  if (!routes_padding()) return choices;
  const TensorView masked = arena.allocate(DType::kInt32, choices.shape());
  mask_choices(ctx, choices, rows.real, masked);
  return masked;
}

TensorView MoeLayer::priority(LayerContext& ctx, const TokenRows& rows,
                              const Routing& routing) const {
  using Priority = CapacityRule::Priority;
  if (capacity_.priority == Priority::kProbability) return routing.weight;
  if (capacity_.priority == Priority::kPosition || !ctx.training) return TensorView();
  const TensorView numbers = ctx.scratch.allocate(routing.weight.dtype(), routing.weight.shape());
  uniform(ctx, ctx.random(rows, layer_, Purpose::kDropPriority), numbers);
  return numbers;
}

TensorView MoeLayer::plan(LayerContext& ctx, const TokenRows& rows, const Routing& routing) const {
  if (drops_none()) return routing.expert;
  const TensorView kept = ctx.decisions.allocate(DType::kInt32, routing.expert.shape());
  const int64_t capacity =
      capacity_of_group(capacity_, ctx.training, router_->choices(), rows.group_tokens, experts());
  const TensorView first = priority(ctx, rows, routing);
  if (reroutes()) {
    plan_reroute(ctx, routing.probs, routing.expert, first, rows.group_offsets, capacity, kept);
  } else {
    plan_capacity(ctx, routing.expert, first, rows.group_offsets, experts(), capacity, kept);
  }
  return kept;
}

void MoeLayer::decide(LayerContext& ctx, const TokenRows& rows, Saved& saved) const {
  const ScratchScope scope(ctx.scratch);
  Routing& routing = saved.routing;
  const int64_t choices = router_->choices();
  saved.expert = routing.expert;
  saved.counted = without_padding(ctx, rows, routing.expert, ctx.decisions);
  saved.statistics = allocate_statistics(ctx.decisions, rows.groups(), experts());
  routing_statistics(ctx, routing.logits, routing.probs, saved.counted, rows.group_offsets,
                     saved.statistics);
  saved.kept = plan(ctx, rows, routing);

  saved.dropped = ctx.decisions.allocate(DType::kInt64, {choices});
  saved.weights = ctx.decisions.allocate(DType::kFloat64, {2});
  saved.kept_counts = ctx.decisions.allocate(DType::kInt64, {rows.groups(), experts()});
  drop_statistics(ctx, saved.counted, saved.kept, routing.weight, saved.dropped, saved.weights);
  count_choices(ctx, without_padding(ctx, rows, saved.kept, ctx.scratch), rows.group_offsets,
                saved.kept_counts);
  if (reroutes()) router_->reroute(ctx, saved.kept, routing);
}

TensorView MoeLayer::forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                             FeedForward::Saved& base) {
  auto& saved = static_cast<Saved&>(base);
  TensorView decided = saved.given;
  if (ctx.replay) decided = reroutes() ? saved.kept : saved.expert;
  saved.routing = router_->forward(ctx, router_input(rows, x), decided);
  saved.scores = saved.routing.probs;
  if (!ctx.replay) decide(ctx, rows, saved);
  experts_.forward(ctx, rows, saved.kept, x, saved.experts);
  const TensorView y = ctx.saved.allocate(x.dtype(), x.shape());
  combine_rows(ctx, saved.experts.returned, saved.experts.plan.position, saved.routing.weight, y);
  return y;
}

void MoeLayer::backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                        const FeedForward::Saved& base, TensorView dy, TensorView dx) {
  const auto& saved = static_cast<const Saved&>(base);
  const Routing& routing = saved.routing;
  const ExchangePlan& plan = saved.experts.plan;
  const TensorView returned = saved.experts.returned;
  const ScratchScope scope(ctx.scratch);
  const TensorView dreturned = ctx.scratch.allocate(x.dtype(), returned.shape());
  const TensorView dweight = ctx.scratch.allocate(routing.weight.dtype(), routing.weight.shape());
  combine_rows_backward(ctx, returned, plan.source, plan.position, routing.weight, dy, dreturned,
                        dweight);
  const TensorView drows = experts_.backward(ctx, rows, x, saved.experts, dreturned);
  combine_rows(ctx, drows, plan.position, TensorView(), dx);

  const TensorView dprobs = ctx.scratch.allocate(routing.probs.dtype(), routing.probs.shape());
  const TensorView dlogits = ctx.scratch.allocate(routing.probs.dtype(), routing.probs.shape());
  fill_zero(ctx, dprobs);
  fill_zero(ctx, dlogits);
  losses_.add_gradients(ctx, rows, saved.counted, routing.logits, routing.probs, saved.statistics,
                        global_load_, dprobs, dlogits);
  router_->backward(ctx, router_input(rows, x), routing, dweight, dprobs, dlogits, dx);
}

void MoeLayer::observe(LayerContext& ctx, const TokenRows& rows, const FeedForward::Saved& base) {
  const auto& saved = static_cast<const Saved&>(base);
  observe_routing(ctx, rows, saved);
  if (!observation_.chosen_by_label.empty()) observe_labels(ctx, rows, saved);
  observe_drops(ctx, saved);
  const DistributedExperts::Sent sent = experts_.sent(ctx, saved.experts);
  observation_.rows_computed += static_cast<double>(saved.experts.plan.received());
  observation_.rows_sent += static_cast<double>(sent.rows);
  observation_.bytes_sent += static_cast<double>(sent.bytes);
  observation_.bytes_sent_again += static_cast<double>(sent.bytes_again);
}

void MoeLayer::observe_routing(LayerContext& ctx, const TokenRows& rows, const Saved& saved) {
  const auto tokens = read_back_as<int64_t>(ctx, saved.statistics.tokens);
  const auto chosen = read_back_as<int64_t>(ctx, saved.statistics.chosen);
  const auto probability = read_back_as<double>(ctx, saved.statistics.mean_probability);
  const auto square_lse = read_back_as<double>(ctx, saved.statistics.mean_square_lse);
  const auto entropy = read_back_as<double>(ctx, saved.statistics.entropy);
  const auto top = read_back_as<double>(ctx, saved.statistics.top_probability);
  const auto all_experts = static_cast<size_t>(experts());
  const auto choices = static_cast<double>(router_->choices());
  const auto groups = static_cast<double>(rows.groups_of_global_batch);
  const auto of_tokens = [&](double sum) {
    return ordered_summand(ctx.ordered, sum, kTokenSumBits);
  };
  for (size_t g = 0; g < tokens.size(); ++g) {
    const auto real = static_cast<double>(tokens[g]);
    if (real == 0) continue;
    double balance = 0;  // sum_e f_e P_e
    for (size_t e = 0; e < all_experts; ++e) {
      const auto count = static_cast<double>(chosen[g * all_experts + e]);
      observation_.chosen[e] += count;
      observation_.probability[e] += of_tokens(probability[g * all_experts + e] * real);
      balance += count / (choices * real) * probability[g * all_experts + e];
    }
    observation_.tokens += real;
    observation_.entropy += of_tokens(entropy[g] * real);
    observation_.top_probability += of_tokens(top[g] * real);
    if (losses_.load_balance_scope == AuxiliaryLosses::Scope::kGroup) {
      observation_.load_balance += ordered_summand(
          ctx.ordered, losses_.load_balance * static_cast<double>(experts()) * balance / groups,
          kMeanSumBits);
    }
    observation_.router_z +=
        ordered_summand(ctx.ordered, losses_.router_z * square_lse[g] / groups, kMeanSumBits);
  }
}

void MoeLayer::observe_labels(LayerContext& ctx, const TokenRows& rows, const Saved& saved) {
  SWITCHYARD_CHECK(static_cast<int64_t>(rows.labels.size()) == rows.tokens(), "labels ",
                   rows.labels.size(), " of tokens ", rows.tokens());
  const auto counted = read_back_as<int32_t>(ctx, saved.counted);
  const auto each = static_cast<size_t>(router_->choices());
  for (size_t i = 0; i < counted.size(); ++i) {
    if (counted[i] < 0) continue;
    const auto label = static_cast<size_t>(rows.labels[i / each]);
    observation_.chosen_by_label.at(label * static_cast<size_t>(experts()) +
                                    static_cast<size_t>(counted[i])) += 1;
  }
}

void MoeLayer::observe_drops(LayerContext& ctx, const Saved& saved) {
  const auto dropped_choices = read_back_as<int64_t>(ctx, saved.dropped);
  for (size_t k = 0; k < dropped_choices.size(); ++k) {
    observation_.dropped_by_choice[k] += static_cast<double>(dropped_choices[k]);
  }
  const auto both = read_back_as<double>(ctx, saved.weights);
  observation_.weight += both[0];
  observation_.weight_lost += both[1];
  const auto kept = read_back_as<int64_t>(ctx, saved.kept_counts);
  for (size_t i = 0; i < kept.size(); ++i) {
    observation_.kept[i % static_cast<size_t>(experts())] += static_cast<double>(kept[i]);
  }
}

void MoeLayer::collect_weights(std::vector<Weight*>& weights) {
  router_->collect_weights(weights);
  experts_.experts().collect_weights(weights);
}

}  // namespace switchyard
