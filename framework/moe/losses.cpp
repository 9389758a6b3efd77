#include "moe/losses.h"

#include <numeric>

namespace switchyard {

// count * sum_i f_i P_i over `count` groups of `experts` consecutive experts.
static double balance_of_groups(std::span<const double> chosen, std::span<const double> probability,
                                size_t experts, double tokens, double choices) {
  const auto sum = [&](std::span<const double> values, size_t first) {
    const auto of_group = values.subspan(first, experts);
    return std::accumulate(of_group.begin(), of_group.end(), 0.0);
  };
  double balance = 0;
  for (size_t first = 0; first < chosen.size(); first += experts) {
    balance += sum(chosen, first) / (choices * tokens) * (sum(probability, first) / tokens);
  }
  return static_cast<double>(chosen.size() / experts) * balance;
}

double AuxiliaryLosses::balance(std::span<const double> chosen, std::span<const double> probability,
                                double tokens, double choices) const {
  if (tokens == 0) return 0.0;
  const double of_experts = balance_of_groups(chosen, probability, 1, tokens, choices);
  if (group_experts == 1) return load_balance * of_experts;
  const auto experts = static_cast<size_t>(group_experts);
  const double of_groups = balance_of_groups(chosen, probability, experts, tokens, choices);
  return load_balance * 0.5 * (of_experts + of_groups);
}

double AuxiliaryLosses::load_balance_of(const MoeObservation& seen) const {
  if (!needs_global_load()) return seen.load_balance;
  return balance(seen.chosen, seen.probability, seen.tokens,
                 static_cast<double>(seen.dropped_by_choice.size()));
}

TensorView AuxiliaryLosses::gates(LayerContext& ctx, const Routing& routing) const {
  const TensorView gates = ctx.scratch.allocate(routing.weight.dtype(), routing.probs.shape());
  fill_zero(ctx, gates);
  gather_choices_backward(ctx, routing.expert, routing.weight, gates);
  return gates;
}

TensorView AuxiliaryLosses::importance_of(LayerContext& ctx, const TokenRows& rows,
                                          const Routing& routing) const {
  if (importance == 0) return {};
  const TensorView of_groups = ctx.decisions.allocate(DType::kFloat64, {rows.groups()});
  const ScratchScope scope(ctx.scratch);
  cv_squared(ctx, gates(ctx, routing), rows.real, rows.group_offsets, of_groups);
  return of_groups;
}

TensorView AuxiliaryLosses::load_of(LayerContext& ctx, const TokenRows& rows,
                                    const Routing& routing) const {
  if (load == 0 || routing.smooth_load.absent()) return {};
  const TensorView of_groups = ctx.decisions.allocate(DType::kFloat64, {rows.groups()});
  cv_squared(ctx, routing.smooth_load, rows.real, rows.group_offsets, of_groups);
  return of_groups;
}

//   factor  of f and P summed over experts or groups of them, without their number
void AuxiliaryLosses::add_balance(LayerContext& ctx, TensorView real, LeafOffsets groups,
                                  const RoutingStatistics& statistics, int64_t choices,
                                  double factor, TensorView dprobs) const {
  const int64_t experts = dprobs.shape()[1];
  const double share = group_experts == 1 ? 1.0 : 0.5;
  load_balance_gradient(ctx, real, groups, statistics, choices, 1,
                        share * factor * static_cast<double>(experts), dprobs);
  if (group_experts == 1) return;
  load_balance_gradient(ctx, real, groups, statistics, choices, group_experts,
                        share * factor * static_cast<double>(experts / group_experts), dprobs);
}

void AuxiliaryLosses::add_global_balance(LayerContext& ctx, TensorView real, int64_t choices,
                                         const GlobalLoad& global, TensorView dprobs) const {
  SWITCHYARD_CHECK(global.step == ctx.step && !global.chosen.empty(),
                   "the load of the global batch of step ", ctx.step, " is not known");
  // The global batch as one group, of which this rank has the tokens [0, T).
  const ScratchScope scope(ctx.scratch);
  const int64_t boundaries[] = {0, dprobs.shape()[0]};
  const RoutingStatistics whole = allocate_statistics(ctx.scratch, 1, dprobs.shape()[1]);
  upload(ctx, std::span(&global.tokens, 1), whole.tokens);
  upload(ctx, std::span(global.chosen), whole.chosen);
  add_balance(ctx, real, boundaries, whole, choices, load_balance, dprobs);
}

void AuxiliaryLosses::add_gradients(LayerContext& ctx, const TokenRows& rows,
                                    const Routing& routing, const RoutingStatistics& statistics,
                                    const GlobalLoad& global,
                                    const RoutingGradient& gradient) const {
  const auto groups = static_cast<double>(rows.groups_of_global_batch);
  const int64_t choices = routing.chosen.shape()[1];
  if (needs_global_load()) {
    add_global_balance(ctx, rows.real, choices, global, gradient.dprobs);
  } else if (load_balance > 0) {
    add_balance(ctx, rows.real, rows.group_offsets, statistics, choices, load_balance / groups,
                gradient.dprobs);
  }
  if (router_z > 0) {
    router_z_gradient(ctx, routing.logits, rows.real, rows.group_offsets, statistics,
                      router_z / groups, gradient.dlogits);
  }
  if (importance > 0) {
    const ScratchScope scope(ctx.scratch);
    const TensorView of_gates = gates(ctx, routing);
    const TensorView dgates = ctx.scratch.allocate(of_gates.dtype(), of_gates.shape());
    const TensorView addend = ctx.scratch.allocate(of_gates.dtype(), gradient.dweight.shape());
    fill_zero(ctx, dgates);
    cv_squared_gradient(ctx, of_gates, rows.real, rows.group_offsets, importance / groups, dgates);
    gather_choices(ctx, dgates, routing.expert, addend);
    add(ctx, gradient.dweight, addend, gradient.dweight);
  }
  if (load > 0 && !routing.smooth_load.absent()) {
    cv_squared_gradient(ctx, routing.smooth_load, rows.real, rows.group_offsets, load / groups,
                        gradient.dsmooth_load);
  }
}

}  // namespace switchyard
