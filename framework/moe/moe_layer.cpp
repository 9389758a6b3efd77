#include "moe/moe_layer.h"

#include <algorithm>

#include "ops/host_values.h"

namespace switchyard {

MoeLayer::MoeLayer(std::string name, uint16_t layer, std::unique_ptr<Router> router,
                   std::unique_ptr<Experts> experts, const CapacityRule& capacity,
                   const AuxiliaryLosses& losses, Exchange::Options exchange,
                   std::unique_ptr<DensePath> dense_path)
    : name_(std::move(name)),
      layer_(layer),
      router_(std::move(router)),
      slot_router_(dynamic_cast<SlotRouter*>(router_.get())),
      experts_(layer, std::move(experts), std::move(exchange)),
      dense_path_(std::move(dense_path)),
      capacity_(capacity),
      losses_(losses),
      observation_(local_experts().total, router_->choices()) {
  losses_.group_experts = router_->group_experts();
}

std::unique_ptr<FeedForward::Saved> MoeLayer::make_saved() const {
  auto saved = std::make_unique<Saved>();
  saved->routing = router_->make_routing();
  if (dense_path_) saved->dense_path = dense_path_->make_saved();
  return saved;
}

int64_t MoeLayer::capacity(const LayerContext& ctx, const TokenRows& rows) const {
  return capacity_of_group(capacity_, ctx.training, router_->experts_per_token(), rows.group_tokens,
                           experts());
}

RouterInput MoeLayer::router_input(const LayerContext& ctx, const TokenRows& rows,
                                   TensorView x) const {
  return {x, rows, routes_padding() ? TensorView() : rows.real, capacity(ctx, rows)};
}

MoeLayer::Travellers MoeLayer::travellers(const TokenRows& rows, TensorView x,
                                          const Saved& saved) const {
  if (slot_router_ == nullptr) return {rows, x, saved.kept};
  const auto& routing = static_cast<const SlotRouting&>(*saved.routing);
  return {routing.rows, routing.slots, routing.expert_of_slot};
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
  const TensorView first = priority(ctx, rows, routing);
  if (reroutes()) {
    plan_reroute(ctx, routing.scores, routing.expert, first, rows.group_offsets,
                 capacity(ctx, rows), kept);
  } else {
    plan_capacity(ctx, routing.expert, first, rows.group_offsets, experts(), capacity(ctx, rows),
                  kept);
  }
  return kept;
}

void MoeLayer::decide(LayerContext& ctx, const TokenRows& rows, Saved& saved) const {
  const ScratchScope scope(ctx.scratch);
  Routing& routing = *saved.routing;
  saved.expert = routing.chosen;
  saved.counted = without_padding(ctx, rows, routing.chosen, ctx.decisions);
  saved.statistics = allocate_statistics(ctx.decisions, rows.groups(), experts());
  routing_statistics(ctx, routing.logits, routing.probs, routing.chosen, rows.real,
                     rows.group_offsets, saved.statistics);
  saved.kept = plan(ctx, rows, routing);
  measure_drops(ctx, rows, saved);
  if (reroutes()) router_->reroute(ctx, saved.kept, routing);
  saved.importance = losses_.importance_of(ctx, rows, routing);
  saved.load = losses_.load_of(ctx, rows, routing);
}

void MoeLayer::measure_drops(LayerContext& ctx, const TokenRows& rows, Saved& saved) const {
  const Routing& routing = *saved.routing;
  saved.dropped = ctx.decisions.allocate(DType::kInt64, {router_->choices()});
  saved.weights = ctx.decisions.allocate(DType::kFloat64, {2});
  saved.kept_counts = ctx.decisions.allocate(DType::kInt64, {rows.groups(), experts()});
  const TensorView kept = without_padding(ctx, rows, saved.kept, ctx.scratch);
  count_choices(ctx, kept, rows.group_offsets, saved.kept_counts);
  if (slot_router_ == nullptr) {
    const TensorView sent = without_padding(ctx, rows, routing.expert, ctx.scratch);
    drop_statistics(ctx, sent, saved.kept, routing.weight, saved.dropped, saved.weights);
  } else {
    fill_zero(ctx, saved.dropped);
    fill_zero(ctx, saved.weights);
  }
}

TensorView MoeLayer::forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                             FeedForward::Saved& base) {
  auto& saved = static_cast<Saved&>(base);
  const TensorView y = forward_routed(ctx, rows, x, saved);
  return dense_path_ ? dense_path_->forward(ctx, rows, x, y, saved.dense_path) : y;
}

TensorView MoeLayer::forward_routed(LayerContext& ctx, const TokenRows& rows, TensorView x,
                                    Saved& saved) {
  Span span(ctx.tracer, Phase::kRouting);
  Routing& routing = *saved.routing;
  const RouterInput input = router_input(ctx, rows, x);
  router_->forward(ctx, input, ctx.replay ? saved.expert : saved.given, routing);
  saved.scores = routing.scores;
  if (!ctx.replay) {
    decide(ctx, rows, saved);
  } else if (reroutes()) {
    router_->reroute(ctx, saved.kept, routing);
  }
  const Travellers going = travellers(rows, x, saved);
  span.then(Phase::kExchange);
  experts_.forward(ctx, going.rows, going.expert, going.x, saved.experts);
  span.then(Phase::kCombine);
  const TensorView results = ctx.saved.allocate(x.dtype(), going.x.shape());
  combine_rows(ctx, saved.experts.returned, saved.experts.plan.position,
               slot_router_ ? TensorView() : routing.weight, results);
  if (slot_router_ == nullptr) return results;
  saved.results = results;
  return slot_router_->spread(ctx, input, static_cast<SlotRouting&>(routing), results);
}

void MoeLayer::backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                        const FeedForward::Saved& base, TensorView dy, TensorView dx) {
  const auto& saved = static_cast<const Saved&>(base);
  if (!dense_path_) return backward_routed(ctx, rows, x, saved, dy, dx);
  const ScratchScope scope(ctx.scratch);
  const TensorView drouted = ctx.scratch.allocate(dy.dtype(), dy.shape());
  const TensorView dx_here = ctx.scratch.allocate(dx.dtype(), dx.shape());
  dense_path_->backward(ctx, rows, x, saved.dense_path, dy, drouted, dx_here);
  backward_routed(ctx, rows, x, saved, drouted, dx);
  add(ctx, dx, dx_here, dx);
}

void MoeLayer::backward_routed(LayerContext& ctx, const TokenRows& rows, TensorView x,
                               const Saved& saved, TensorView dy, TensorView dx) {
  Span span(ctx.tracer, Phase::kCombine);
  const Routing& routing = *saved.routing;
  const RouterInput input = router_input(ctx, rows, x);
  const Travellers going = travellers(rows, x, saved);
  const ExchangePlan& plan = saved.experts.plan;
  const TensorView returned = saved.experts.returned;
  const ScratchScope scope(ctx.scratch);
  const TensorView dreturned = ctx.scratch.allocate(x.dtype(), returned.shape());
  RoutingGradient gradient = zero_gradient(ctx, routing);
  if (slot_router_) {
    const TensorView dresults = ctx.scratch.allocate(x.dtype(), saved.results.shape());
    slot_router_->spread_backward(ctx, input, static_cast<const SlotRouting&>(routing),
                                  saved.results, dy, dresults, gradient.dweight);
    combine_rows_backward(ctx, returned, plan.source, plan.position, TensorView(), dresults,
                          dreturned, TensorView());
  } else {
    combine_rows_backward(ctx, returned, plan.source, plan.position, routing.weight, dy, dreturned,
                          gradient.dweight);
  }
  span.then(Phase::kExchange);
  const TensorView drows = experts_.backward(ctx, going.rows, going.x, saved.experts, dreturned);
  span.then(Phase::kCombine);
  TensorView dtravellers = dx;
  if (slot_router_) {
    dtravellers = gradient.dslots = ctx.scratch.allocate(x.dtype(), going.x.shape());
    fill_zero(ctx, dx);
  }
  combine_rows(ctx, drows, plan.position, TensorView(), dtravellers);
  span.then(Phase::kRouting);
  losses_.add_gradients(ctx, rows, routing, saved.statistics, global_load_, gradient);
  router_->backward(ctx, input, routing, gradient, dx);
}

RoutingGradient MoeLayer::zero_gradient(LayerContext& ctx, const Routing& routing) const {
  const auto zeros_like = [&](TensorView x) {
    const TensorView zeros = ctx.scratch.allocate(x.dtype(), x.shape());
    fill_zero(ctx, zeros);
    return zeros;
  };
  RoutingGradient gradient;
  gradient.dweight = ctx.scratch.allocate(routing.weight.dtype(), routing.weight.shape());
  gradient.dprobs = zeros_like(routing.probs);
  gradient.dlogits = zeros_like(routing.probs);
  if (!routing.smooth_load.absent()) gradient.dsmooth_load = zeros_like(routing.smooth_load);
  return gradient;
}

void MoeLayer::observe(LayerContext& ctx, const TokenRows& rows, const FeedForward::Saved& base) {
  const auto& saved = static_cast<const Saved&>(base);
  observe_routing(ctx, rows, saved);
  observe_variations(ctx, rows, saved);
  observe_classes(ctx, rows, saved);
  observe_drops(ctx, saved);
  const DistributedExperts::Sent sent = experts_.sent(ctx, saved.experts);
  observation_.rows_computed += static_cast<double>(saved.experts.plan.received());
  observation_.rows_sent += static_cast<double>(sent.rows);
  observation_.bytes_sent += static_cast<double>(sent.bytes);
  observation_.bytes_sent_again += static_cast<double>(sent.bytes_again);
}

void MoeLayer::observe_routing(LayerContext& ctx, const TokenRows& rows, const Saved& saved) {
  const auto tokens = host_values<int64_t>(ctx, saved.statistics.tokens);
  const auto chosen = host_values<int64_t>(ctx, saved.statistics.chosen);
  const auto probability = host_values<double>(ctx, saved.statistics.mean_probability);
  const auto square_lse = host_values<double>(ctx, saved.statistics.mean_square_lse);
  const auto entropy = host_values<double>(ctx, saved.statistics.entropy);
  const auto top = host_values<double>(ctx, saved.statistics.top_probability);
  const auto all_experts = static_cast<size_t>(experts());
  const auto choices = static_cast<double>(router_->choices());
  ReusedVector<double> group_chosen(all_experts), group_probability(all_experts);
  const auto groups = static_cast<double>(rows.groups_of_global_batch);
  const auto of_tokens = [&](double sum) {
    return ordered_summand(ctx.ordered, sum, kTokenSumBits);
  };
  for (size_t g = 0; g < tokens.size(); ++g) {
    const auto real = static_cast<double>(tokens[g]);
    if (real == 0) continue;
    for (size_t e = 0; e < all_experts; ++e) {
      group_chosen[e] = static_cast<double>(chosen[g * all_experts + e]);
      group_probability[e] = probability[g * all_experts + e] * real;
      observation_.chosen[e] += group_chosen[e];
      observation_.probability[e] += of_tokens(group_probability[e]);
    }
    observation_.tokens += real;
    observation_.entropy += of_tokens(entropy[g] * real);
    observation_.top_probability += of_tokens(top[g] * real);
    if (losses_.load_balance_scope == AuxiliaryLosses::Scope::kGroup) {
      observation_.load_balance += ordered_summand(
          ctx.ordered, losses_.balance(group_chosen, group_probability, real, choices) / groups,
          kMeanSumBits);
    }
    observation_.router_z +=
        ordered_summand(ctx.ordered, losses_.router_z * square_lse[g] / groups, kMeanSumBits);
  }
}

void MoeLayer::observe_variations(LayerContext& ctx, const TokenRows& rows, const Saved& saved) {
  const auto add = [&](TensorView of_groups, double coef, double& sum) {
    if (of_groups.absent()) return;
    for (const double cv : host_values<double>(ctx, of_groups)) {
      sum += ordered_summand(
          ctx.ordered, coef * cv / static_cast<double>(rows.groups_of_global_batch), kMeanSumBits);
    }
  };
  add(saved.importance, losses_.importance, observation_.importance);
  add(saved.load, losses_.load, observation_.load);
}

void MoeLayer::observe_classes(LayerContext& ctx, const TokenRows& rows, const Saved& saved) {
  const bool by_label = !observation_.chosen_by_label.empty();
  const bool by_token = !observation_.chosen_by_token.empty();
  if (!by_label && !by_token) return;
  const auto counted = host_values<int32_t>(ctx, saved.counted);
  const size_t each = counted.size() / static_cast<size_t>(std::max<int64_t>(rows.tokens(), 1));
  const auto count = [&](std::span<const int32_t> classes, std::vector<double>& counts) {
    SWITCHYARD_CHECK(static_cast<int64_t>(classes.size()) == rows.tokens(), "classes ",
                     classes.size(), " of tokens ", rows.tokens());
    for (size_t i = 0; i < counted.size(); ++i) {
      if (counted[i] < 0) continue;
      const auto of_token = static_cast<size_t>(classes[i / each]);
      counts.at(of_token * static_cast<size_t>(experts()) + static_cast<size_t>(counted[i])) += 1;
    }
  };
  if (by_label) count(rows.labels, observation_.chosen_by_label);
  if (by_token) count(host_values<int32_t>(ctx, rows.ids), observation_.chosen_by_token);
}

void MoeLayer::observe_drops(LayerContext& ctx, const Saved& saved) {
  const auto dropped_choices = host_values<int64_t>(ctx, saved.dropped);
  for (size_t k = 0; k < dropped_choices.size(); ++k) {
    observation_.dropped_by_choice[k] += static_cast<double>(dropped_choices[k]);
  }
  const auto both = host_values<double>(ctx, saved.weights);
  observation_.weight += both[0];
  observation_.weight_lost += both[1];
  const auto kept = host_values<int64_t>(ctx, saved.kept_counts);
  for (size_t i = 0; i < kept.size(); ++i) {
    observation_.kept[i % static_cast<size_t>(experts())] += static_cast<double>(kept[i]);
  }
}

void MoeLayer::collect_weights(std::vector<Weight*>& weights) {
  router_->collect_weights(weights);
  experts_.experts().collect_weights(weights);
  if (dense_path_) dense_path_->collect_weights(weights);
}

}  // namespace switchyard
