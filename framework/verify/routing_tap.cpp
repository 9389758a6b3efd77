#include "verify/routing_tap.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/kernels.h"
#include "trainer/metrics.h"

namespace switchyard {

RoutingTap::RoutingTap(RunParts& parts, RunHooks& hooks)
    : parts_(parts), hooks_(hooks), model_(*parts.model), layers_(model_.moe_layers()) {}

void RoutingTap::begin_step(int64_t step, const Snapshot* reference) {
  step_ = step;
  reference_ = reference;
  choices_.clear();
}

Snapshot RoutingTap::take_choices() { return std::move(choices_); }

TensorView RoutingTap::forward(LayerContext& ctx, const ModelBatch& batch, double gradient_scale) {
  HookedRank rank{parts_, ctx, step_};
  const double scale = hooks_.gradient_scale(rank, batch, gradient_scale);
  if (ctx.replay) return model_.forward(ctx, batch, scale);  // settled by route()
  settle(ctx, batch);
  const TensorView losses = model_.forward(ctx, batch, scale);
  record(ctx, batch);
  return losses;
}

void RoutingTap::route(LayerContext& ctx, const ModelBatch& batch) {
  settle(ctx, batch);
  model_.route(ctx, batch);
  record(ctx, batch);
}

void RoutingTap::backward(LayerContext& ctx, const ModelBatch& batch) {
  model_.backward(ctx, batch);
  HookedRank rank{parts_, ctx, step_};
  hooks_.after_backward(rank);
}

// A choice that flips changes what later layers see: their choices are compared only once all
// earlier ones are the reference's. By routing alone: a forward in training writes the head's
// gradient, which must come once.
void RoutingTap::settle(LayerContext& ctx, const ModelBatch& batch) {
  if (reference_ == nullptr) return;
  size_t settled = 0;
  while (true) {
    model_.route(ctx, batch);
    const std::optional<size_t> layer = next_near_tie(ctx, batch, settled);
    if (!layer) return;
    settled = *layer + 1;
    give_choices(ctx, batch, settled);
  }
}

const TokenRows& RoutingTap::rows_of(size_t layer, const ModelBatch& batch) const {
  return layers_[layer]->stack() == StackKind::kEncoder ? batch.encoder : batch.decoder;
}

int64_t RoutingTap::first_choice(LayerContext& ctx, size_t layer, const ModelBatch& batch) const {
  const TokenRows& rows = rows_of(layer, batch);
  if (rows.tokens() == 0) return 0;
  const int64_t token = read_back_as<int64_t>(ctx, rows.global_index.rows(0, 1)).front();
  return token * model_.decisions()[layer]->expert.shape()[1];
}

static std::vector<double> on_host(ExecContext& ctx, TensorView x) {
  if (x.dtype() == DType::kFloat64) return read_back_as<double>(ctx, x);
  const auto values = read_back_as<float>(ctx, x);
  return {values.begin(), values.end()};
}

RoutingTap::Flips RoutingTap::flips_of(LayerContext& ctx, size_t layer,
                                       const ModelBatch& batch) const {
  const MoeDecisions& decisions = *model_.decisions()[layer];
  const auto chosen = read_back_as<int32_t>(ctx, decisions.expert);
  const int32_t* expected =
      reference_choices(layer).data<int32_t>() + first_choice(ctx, layer, batch);
  Flips flips;
  if (std::equal(chosen.begin(), chosen.end(), expected)) return flips;
  const std::vector<double> scores = on_host(ctx, decisions.scores);
  const auto each = static_cast<size_t>(decisions.expert.shape()[1]);
  const auto experts = static_cast<size_t>(decisions.scores.shape()[1]);
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i] == expected[i]) continue;
    const double* of_token = &scores[i / each * experts];
    const double gap = chosen[i] < 0 || expected[i] < 0
                           ? std::numeric_limits<double>::infinity()
                           : std::abs(of_token[chosen[i]] - of_token[expected[i]]);
    flips.count += 1;
    flips.widest = std::max(flips.widest, gap);
  }
  return flips;
}

std::optional<size_t> RoutingTap::next_near_tie(LayerContext& ctx, const ModelBatch& batch,
                                                size_t layer) {
  std::vector<double> sums;  // of each layer: flips, and ranks with one that is no near tie
  for (size_t i = layer; i < layers_.size(); ++i) {
    const Flips flips = flips_of(ctx, i, batch);
    sums.push_back(static_cast<double>(flips.count));
    sums.push_back(flips.widest > kNearTie ? 1 : 0);
  }
  sums = sum_over_ranks(*parts_.groups.world, sums);
  for (size_t i = 0; i < sums.size(); i += 2) {
    if (sums[i + 1] > 0) return std::nullopt;
    if (sums[i] == 0) continue;
    near_ties_ += static_cast<int64_t>(sums[i]);
    return layer + i / 2;
  }
  return std::nullopt;
}

void RoutingTap::give_choices(LayerContext& ctx, const ModelBatch& batch, size_t layers) {
  for (size_t layer = 0; layer < layers; ++layer) {
    MoeDecisions& decisions = *model_.decisions()[layer];
    const int32_t* choices =
        reference_choices(layer).data<int32_t>() + first_choice(ctx, layer, batch);
    const Shape shape = decisions.expert.shape();
    decisions.given = ctx.decisions.allocate(DType::kInt32, shape);
    upload(ctx, std::span(choices, static_cast<size_t>(shape.elements())), decisions.given);
  }
}

void RoutingTap::record(LayerContext& ctx, const ModelBatch& batch) {
  for (MoeDecisions* decisions : model_.decisions()) decisions->given = TensorView();
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const MoeDecisions& decisions = *model_.decisions()[layer];
    const int64_t tokens = parts_.layout.sequences * rows_of(layer, batch).length;
    if (choices_.size() <= 2 * layer) {
      for (const Check check : {Check::kChoice, Check::kDrop}) {
        choices_.push_back(Item::absent(check, ItemGroup::kRouting, layers_[layer]->name(),
                                        DType::kInt32, {tokens, decisions.expert.shape()[1]}));
        choices_.back().allocate();
      }
    }
    const int64_t first = first_choice(ctx, layer, batch);
    for (const bool kept : {false, true}) {
      const auto values = read_back_as<int32_t>(ctx, kept ? decisions.kept : decisions.expert);
      Item& item = choices_[2 * layer + (kept ? 1 : 0)];
      std::copy(values.begin(), values.end(), item.data<int32_t>() + first);
      if (!values.empty()) item.hold({first, first + static_cast<int64_t>(values.size())});
    }
  }
}

}  // namespace switchyard
