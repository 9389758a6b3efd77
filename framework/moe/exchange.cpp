#include "moe/exchange.h"

#include <algorithm>
#include <numeric>

namespace switchyard {

RaggedRows ExchangePlan::ragged() const {
  return {.offsets = offsets,
          .device_offsets = {},
          .index = index,
          .scale = {},
          .leaf_offsets = leaf_offsets};
}

Exchange::Counts Exchange::gather_counts(LayerContext& ctx, const TokenRows& rows,
                                         TensorView kept) const {
  const ScratchScope scope(ctx.scratch);
  Collectives& group = *ctx.groups.expert;
  const auto ranks = static_cast<size_t>(group.size());

  // Where every rank stands, and how many rows of counts it will send.
  const int64_t here[] = {layer_, ctx.step, rows.groups()};
  const TensorView mine = ctx.scratch.allocate(DType::kInt64, {1, 3});
  const TensorView all = ctx.scratch.allocate(DType::kInt64, {group.size(), 3});
  upload(ctx, std::span<const int64_t>(here), mine);
  const std::vector<int64_t> one_each(ranks, 1);
  group.all_gather(ctx.stream, mine, one_each, all)->wait();
  const auto places = read_back_as<int64_t>(ctx, all);

  Counts counts;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const int64_t* there = &places[rank * 3];
    if (there[0] != here[0] || there[1] != here[1]) {
      throw RankError("ranks are out of step: rank " + std::to_string(rank) +
                          " of the expert group is at layer " + std::to_string(there[0]) +
                          ", step " + std::to_string(there[1]),
                      "layer " + std::to_string(here[0]) + ", step " + std::to_string(here[1]) +
                          ", rank " + std::to_string(current_rank()),
                      "this is a defect of the program: please report it with the config");
    }
    counts.leaves_of_rank.push_back(there[2]);
  }
  const int64_t leaves =
      std::accumulate(counts.leaves_of_rank.begin(), counts.leaves_of_rank.end(), int64_t{0});
  const TensorView local = ctx.scratch.allocate(DType::kInt64, {rows.groups(), experts_});
  const TensorView gathered = ctx.scratch.allocate(DType::kInt64, {leaves, experts_});
  count_choices(ctx, kept, rows.group_offsets, local);
  group.all_gather(ctx.stream, local, counts.leaves_of_rank, gathered)->wait();
  counts.rows = read_back_as<int64_t>(ctx, gathered);
  return counts;
}

TensorView Exchange::exchange_keys(LayerContext& ctx, const TokenRows& rows,
                                   const ExchangePlan& plan) const {
  const ScratchScope scope(ctx.scratch);
  const TensorView sent = ctx.scratch.allocate(DType::kInt64, {plan.sent});
  const TensorView received = ctx.scratch.allocate(DType::kInt64, {plan.received});
  const TensorView keys = ctx.saved.allocate(DType::kInt64, {plan.received});
  gather_row_keys(ctx, rows.global_index, plan.source, plan.position.shape()[1], sent);
  ctx.groups.expert->all_to_all(ctx.stream, sent, plan.send_rows, received, plan.received_rows)
      ->wait();
  gather_row_keys(ctx, received, plan.index, 1, keys);  // into compact order, choices stay
  return keys;
}

ExchangePlan Exchange::agree(LayerContext& ctx, const TokenRows& rows, TensorView kept,
                             bool with_keys) const {
  const Counts counts = gather_counts(ctx, rows, kept);
  const Collectives& group = *ctx.groups.expert;
  const int ranks = group.size();
  const auto count = [&](int64_t leaf, int64_t expert) {
    return counts.rows[static_cast<size_t>(leaf * experts_ + expert)];
  };
  std::vector<int64_t> first_leaf(static_cast<size_t>(ranks) + 1, 0);
  std::partial_sum(counts.leaves_of_rank.begin(), counts.leaves_of_rank.end(),
                   first_leaf.begin() + 1);
  const auto rows_from = [&](int rank, int64_t expert) {
    int64_t sum = 0;
    const auto at = static_cast<size_t>(rank);
    for (int64_t leaf = first_leaf[at]; leaf < first_leaf[at + 1]; ++leaf) {
      sum += count(leaf, expert);
    }
    return sum;
  };
  const ExpertRange mine = experts_of_rank(experts_, ranks, group.rank());

  ExchangePlan plan;
  std::vector<int64_t> next_received;  // where the next run of each rank's rows starts
  for (int rank = 0; rank < ranks; ++rank) {
    const ExpertRange theirs = experts_of_rank(experts_, ranks, rank);
    int64_t send = 0, receive = 0;
    for (int64_t e = 0; e < theirs.count; ++e) send += rows_from(group.rank(), theirs.first + e);
    for (int64_t e = 0; e < mine.count; ++e) receive += rows_from(rank, mine.first + e);
    next_received.push_back(plan.received);
    plan.send_rows.push_back(send);
    plan.received_rows.push_back(receive);
    plan.sent += send;
    plan.received += receive;
  }

  // The compact order of an expert is by rank, leaf and token: the order of the global batch, since
  // consecutive ranks hold consecutive leaves.
  std::vector<int32_t> index;
  index.reserve(static_cast<size_t>(plan.received));
  plan.offsets.push_back(0);
  plan.leaf_offsets.push_back(0);
  for (int64_t e = 0; e < mine.count; ++e) {
    for (int rank = 0; rank < ranks; ++rank) {
      const auto at = static_cast<size_t>(rank);
      for (int64_t leaf = first_leaf[at]; leaf < first_leaf[at + 1]; ++leaf) {
        const int64_t run = count(leaf, mine.first + e);
        if (run == 0) continue;
        for (int64_t i = 0; i < run; ++i) {
          index.push_back(static_cast<int32_t>(next_received[at]++));
        }
        plan.leaf_offsets.push_back(static_cast<int64_t>(index.size()));
      }
    }
    plan.offsets.push_back(static_cast<int64_t>(index.size()));
  }
  plan.index = ctx.saved.allocate(DType::kInt32, {plan.received});
  upload(ctx, std::span<const int32_t>(index), plan.index);

  plan.source = ctx.saved.allocate(DType::kInt32, {kept.elements()});
  plan.position = ctx.saved.allocate(DType::kInt32, kept.shape());
  order_choices(ctx, kept, experts_, plan.source, plan.position);
  if (with_keys) plan.keys = exchange_keys(ctx, rows, plan);
  return plan;
}

TensorView Exchange::to_experts(LayerContext& ctx, const ExchangePlan& plan, TensorView x,
                                Arena& arena) const {
  const TensorView rows = ctx.scratch.allocate(x.dtype(), {plan.sent, x.shape()[1]});
  const int64_t choices = plan.position.shape()[1];
  gather_rows(ctx, x, plan.source, choices, rows);
  return send_rows(ctx, plan, rows, arena);
}

TensorView Exchange::send_rows(LayerContext& ctx, const ExchangePlan& plan, TensorView rows,
                               Arena& arena) const {
  const TensorView received = arena.allocate(rows.dtype(), {plan.received, rows.shape()[1]});
  ctx.groups.expert->all_to_all(ctx.stream, rows, plan.send_rows, received, plan.received_rows)
      ->wait();
  return received;
}

TensorView Exchange::to_owners(LayerContext& ctx, const ExchangePlan& plan, TensorView computed,
                               Arena& arena) const {
  const TensorView returned = arena.allocate(computed.dtype(), {plan.sent, computed.shape()[1]});
  ctx.groups.expert->all_to_all(ctx.stream, computed, plan.received_rows, returned, plan.send_rows)
      ->wait();
  return returned;
}

}  // namespace switchyard
