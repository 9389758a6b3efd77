#include "moe/moe_layer.h"

namespace switchyard {

MoeLayer::MoeLayer(std::string name, uint16_t layer, std::unique_ptr<Router> router,
                   std::unique_ptr<Experts> experts, const CapacityRule& capacity,
                   const AuxiliaryLosses& losses)
    : name_(std::move(name)),
      router_(std::move(router)),
      experts_(std::move(experts)),
      exchange_(layer, experts_->range().total),
      capacity_(capacity),
      losses_(losses),
      observation_(experts_->range().total, router_->choices()) {}

std::unique_ptr<FeedForward::Saved> MoeLayer::make_saved() const {
  return std::make_unique<Saved>();
}

RouterInput MoeLayer::router_input(const TokenRows& rows, TensorView x) const {
  return {x, rows, capacity_.padding_takes_capacity ? TensorView() : rows.real};
}

TensorView MoeLayer::forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                             FeedForward::Saved& base) {
  auto& saved = static_cast<Saved&>(base);
  const TensorView decided = ctx.replay ? saved.routing.expert : TensorView();
  saved.routing = router_->forward(ctx, router_input(rows, x), decided);
  const Routing& routing = saved.routing;
  if (!ctx.replay) {
    saved.statistics = allocate_statistics(ctx.saved, rows.groups(), experts());
    routing_statistics(ctx, routing.logits, routing.probs, routing.expert, rows.group_offsets,
                       saved.statistics);
    saved.kept = ctx.saved.allocate(DType::kInt32, routing.expert.shape());
    const int64_t group_tokens =
        rows.groups() == 0 ? 0 : rows.group_offsets[1] - rows.group_offsets[0];
    plan_capacity(
        ctx, routing.expert, TensorView(), rows.group_offsets, experts(),
        capacity_of_group(capacity_, ctx.training, router_->choices(), group_tokens, experts()),
        saved.kept);
  }
  saved.plan = exchange_.agree(ctx, rows, saved.kept);
  saved.received = exchange_.to_experts(ctx, saved.plan, x, ctx.saved);
  const ScratchScope scope(ctx.scratch);
  const TensorView computed =
      experts_->forward(ctx, saved.plan.ragged(), saved.received, saved.experts, ctx.scratch);
  saved.returned = exchange_.to_owners(ctx, saved.plan, computed, ctx.saved);
  const TensorView y = ctx.saved.allocate(x.dtype(), x.shape());
  combine_rows(ctx, saved.returned, saved.plan.position, routing.weight, y);
  return y;
}

void MoeLayer::backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                        const FeedForward::Saved& base, TensorView dy, TensorView dx) {
  const auto& saved = static_cast<const Saved&>(base);
  const Routing& routing = saved.routing;
  const ExchangePlan& plan = saved.plan;
  const ScratchScope scope(ctx.scratch);
  const TensorView dreturned = ctx.scratch.allocate(x.dtype(), saved.returned.shape());
  const TensorView dweight = ctx.scratch.allocate(routing.weight.dtype(), routing.weight.shape());
  combine_rows_backward(ctx, saved.returned, plan.source, plan.position, routing.weight, dy,
                        dreturned, dweight);
  const TensorView dcomputed = exchange_.send_rows(ctx, plan, dreturned, ctx.scratch);
  const TensorView dreceived =
      experts_->backward(ctx, plan.ragged(), saved.received, saved.experts, dcomputed, ctx.scratch);
  const TensorView drows = exchange_.to_owners(ctx, plan, dreceived, ctx.scratch);
  combine_rows(ctx, drows, plan.position, TensorView(), dx);

  const TensorView dprobs = ctx.scratch.allocate(routing.probs.dtype(), routing.probs.shape());
  const TensorView dlogits = ctx.scratch.allocate(routing.probs.dtype(), routing.probs.shape());
  fill_zero(ctx, dprobs);
  fill_zero(ctx, dlogits);
  losses_.add_gradients(ctx, rows, routing.expert, routing.logits, routing.probs, saved.statistics,
                        dprobs, dlogits);
  router_->backward(ctx, router_input(rows, x), routing, dweight, dprobs, dlogits, dx);
}

void MoeLayer::collect_weights(std::vector<Weight*>& weights) {
  router_->collect_weights(weights);
  experts_->collect_weights(weights);
}

}  // namespace switchyard
