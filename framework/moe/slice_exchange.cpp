#include "moe/slice_exchange.h"

#include <numeric>

#include "ops/host_values.h"

namespace switchyard {

RaggedRows SlicePlan::ragged() const {
  return {
      .offsets = offsets, .device_offsets = {}, .index = index, .scale = {}, .leaf_offsets = {}};
}

ReusedVector<int64_t> SliceExchange::agree_on_rows(LayerContext& ctx, int64_t rows) const {
  const ScratchScope scope(ctx.scratch);
  Collectives& group = *ctx.groups.tensor;
  const int64_t here[] = {layer_, ctx.step, rows};
  const TensorView mine = ctx.scratch.allocate(DType::kInt64, {1, 3});
  const TensorView all = ctx.scratch.allocate(DType::kInt64, {group.size(), 3});
  upload(ctx, std::span<const int64_t>(here), mine);
  const ReusedVector<int64_t> one_each(static_cast<size_t>(group.size()), 1);
  group.all_gather(ctx.stream, mine, one_each, all)->wait();
  const auto places = host_values<int64_t>(ctx, all);
  ReusedVector<int64_t> rows_of_rank;
  rows_of_rank.reserve(static_cast<size_t>(group.size()));
  for (int rank = 0; rank < group.size(); ++rank) {
    const int64_t* there = &places[static_cast<size_t>(rank) * 3];
    if (there[0] != here[0] || there[1] != here[1]) {
      throw RankError("ranks are out of step: rank " + std::to_string(rank) +
                          " of those with slices of the same experts is at layer " +
                          std::to_string(there[0]) + ", step " + std::to_string(there[1]),
                      "layer " + std::to_string(here[0]) + ", step " + std::to_string(here[1]) +
                          ", rank " + std::to_string(current_rank()),
                      "this is a defect of the program: please report it with the config");
    }
    rows_of_rank.push_back(there[2]);
  }
  return rows_of_rank;
}

SlicePlan SliceExchange::agree(LayerContext& ctx, const RaggedRows& rows, TensorView row_keys,
                               Arena& arena) const {
  const Span span(ctx.tracer, Phase::kExchange);
  Collectives& group = *ctx.groups.tensor;
  const auto ranks = static_cast<size_t>(group.size());
  SlicePlan plan;
  plan.rows_of_rank = agree_on_rows(ctx, rows.rows());
  const int64_t total =
      std::accumulate(plan.rows_of_rank.begin(), plan.rows_of_rank.end(), int64_t{0});
  plan.index = arena.allocate(DType::kInt32, {total});
  if (!row_keys.absent()) plan.keys = arena.allocate(DType::kInt64, {total});

  const ScratchScope scope(ctx.scratch);
  const int64_t boundaries = rows.experts() + 1;
  const TensorView offsets = ctx.scratch.allocate(DType::kInt64, {boundaries});
  const TensorView all_offsets = ctx.scratch.allocate(DType::kInt64, {group.size() * boundaries});
  upload(ctx, rows.offsets, offsets);
  const ReusedVector<int64_t> boundaries_each(ranks, boundaries);
  group.all_gather(ctx.stream, offsets, boundaries_each, all_offsets)->wait();
  const TensorView all_index = ctx.scratch.allocate(DType::kInt32, {total});
  group.all_gather(ctx.stream, rows.index, plan.rows_of_rank, all_index)->wait();
  const auto offset = host_values<int64_t>(ctx, all_offsets);
  const auto index_there = host_values<int32_t>(ctx, all_index);

  ReusedVector<int64_t> first_row(ranks, 0);  // of each rank, where they all stand
  std::partial_sum(plan.rows_of_rank.begin(), plan.rows_of_rank.end() - 1, first_row.begin() + 1);
  ReusedVector<int32_t> index, compact;  // where a row stands, in received and in compact order
  index.reserve(static_cast<size_t>(total));
  compact.reserve(static_cast<size_t>(total));
  plan.offsets.reserve(static_cast<size_t>(boundaries));
  plan.offsets.push_back(0);
  for (int64_t e = 0; e < rows.experts(); ++e) {
    for (size_t rank = 0; rank < ranks; ++rank) {
      const int64_t* expert = &offset[rank * static_cast<size_t>(boundaries)] + e;
      for (int64_t i = first_row[rank] + expert[0]; i < first_row[rank] + expert[1]; ++i) {
        index.push_back(
            static_cast<int32_t>(first_row[rank] + index_there[static_cast<size_t>(i)]));
        compact.push_back(static_cast<int32_t>(i));
      }
    }
    plan.offsets.push_back(static_cast<int64_t>(index.size()));
  }
  upload(ctx, std::span<const int32_t>(index), plan.index);
  if (row_keys.absent()) return plan;
  const TensorView all_keys = ctx.scratch.allocate(DType::kInt64, {total});
  const TensorView order = ctx.scratch.allocate(DType::kInt32, {total});
  group.all_gather(ctx.stream, row_keys, plan.rows_of_rank, all_keys)->wait();
  upload(ctx, std::span<const int32_t>(compact), order);
  gather_row_keys(ctx, all_keys, order, 1, plan.keys);
  return plan;
}

TensorView SliceExchange::gather(LayerContext& ctx, const SlicePlan& plan, TensorView x,
                                 Arena& arena) const {
  const Span span(ctx.tracer, Phase::kExchange);
  const TensorView all = arena.allocate(x.dtype(), {plan.rows(), x.shape()[1]});
  ctx.groups.tensor->all_gather(ctx.stream, x, plan.rows_of_rank, all)->wait();
  return all;
}

void SliceExchange::sum(LayerContext& ctx, const SlicePlan& plan, TensorView partial,
                        TensorView sum) const {
  const Span span(ctx.tracer, Phase::kExchange);
  Collectives& group = *ctx.groups.tensor;
  const DType dtype = accurate(sum.dtype());
  if (dtype == sum.dtype()) {
    group.reduce_scatter(ctx.stream, partial, plan.rows_of_rank, sum)->wait();
    return;
  }
  const ScratchScope scope(ctx.scratch);
  const TensorView wide = ctx.scratch.allocate(dtype, partial.shape());
  const TensorView wide_sum = ctx.scratch.allocate(dtype, sum.shape());
  copy(ctx, partial, wide);
  group.reduce_scatter(ctx.stream, wide, plan.rows_of_rank, wide_sum)->wait();
  copy(ctx, wide_sum, sum);
}

}  // namespace switchyard
