#include "optim/weight_replicas.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/host_values.h"

namespace switchyard {

WeightReplicas::WeightReplicas(const Groups& groups, std::span<Weight* const> weights, bool sharded)
    : world_(*groups.world) {
  for (Weight* weight : weights) {
    if (!weight->is_trained()) continue;
    copies_.push_back({weight, weight->is_expert() ? groups.replica.get() : groups.world});
  }
  if (sharded) choose_owners(groups);
}

// The large before the small, each to the holder with the fewest bytes so far. Ranks of one expert
// group own the same experts' weights: an optimizer may sum over all experts of a layer. A pure
// function of shapes and layout, the same on every rank.
void WeightReplicas::choose_owners(const Groups& groups) {
  const int group_size = groups.expert_ranks();
  std::vector<int64_t> load(static_cast<size_t>(world_.size()));
  const auto elements = [](const Weight& weight) {
    const Shape shape = weight.whole_shape();
    return weight.is_expert() ? weight.experts().total * shape[1] * shape[2] : shape.elements();
  };
  std::vector<size_t> order(copies_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const Weight &first = *copies_[a].weight, &second = *copies_[b].weight;
    if (first.is_expert() != second.is_expert()) return first.is_expert();
    return elements(first) > elements(second);
  });
  for (const size_t i : order) {
    Copies& copies = copies_[i];
    const bool expert = copies.weight->is_expert();
    // Replica number r of an expert is the expert group of ranks [r P, (r + 1) P), which take their
    // loads together.
    const int width = expert ? group_size : 1;
    const auto lightest = [&](int holder) { return load[static_cast<size_t>(holder * width)]; };
    copies.owner = 0;
    for (int holder = 1; holder < copies.holders->size(); ++holder) {
      if (lightest(holder) < lightest(copies.owner)) copies.owner = holder;
    }
    for (int rank = copies.owner * width; rank < (copies.owner + 1) * width; ++rank) {
      load[static_cast<size_t>(rank)] += elements(*copies.weight) / width;
    }
  }
}

std::vector<Weight*> WeightReplicas::updated_here() const {
  std::vector<Weight*> weights;
  for (const Copies& copies : copies_) {
    if (copies.owned_here()) weights.push_back(copies.weight);
  }
  return weights;
}

void WeightReplicas::reduce(ExecContext& ctx, const Copies& copies) const {
  Weight& weight = *copies.weight;
  const TensorView sums = weight.keeps_ordered_sums() ? weight.ordered_sums() : weight.gradient();
  if (!weight.gradient_written()) {
    fill_zero(ctx, sums);
    weight.next_gradient_write();
  }
  if (copies.owner == kEveryHolder) {
    copies.holders->all_reduce(ctx.stream, sums, ReduceOp::kSum)->wait();
    return;
  }
  const TensorView flat = sums.reshape({sums.elements()});
  ReusedVector<int64_t> parts(static_cast<size_t>(copies.holders->size()), 0);
  parts[static_cast<size_t>(copies.owner)] = flat.elements();
  const TensorView part = copies.owned_here() ? flat : flat.rows(0, 0);
  copies.holders->reduce_scatter(ctx.stream, flat, parts, part)->wait();
  if (!copies.owned_here()) weight.begin_step();
}

void WeightReplicas::reduce_gradients(ExecContext& ctx) const {
  for (const Copies& copies : copies_) {
    reduce(ctx, copies);
    if (ctx.ordered && copies.owned_here()) gradient_of_sums(ctx, *copies.weight);
  }
  if (ctx.ordered) {
    world_.all_reduce(ctx.stream, ctx.ordered->refused, ReduceOp::kSum)->wait();
  }
}

double WeightReplicas::gradient_norm(ExecContext& ctx) const {
  // One entry for each dense weight and each expert of the model, filled by one of its holders: to
  // add up over the ranks changes no bit, and the entries are summed in one order everywhere.
  int64_t entries = 0;
  for (const Copies& copies : copies_) {
    entries += copies.weight->is_expert() ? copies.weight->experts().total : 1;
  }
  if (entries == 0) return 0.0;
  const ScratchScope scope(ctx.scratch);
  const TensorView squares = ctx.scratch.allocate(DType::kFloat64, {entries});
  fill_zero(ctx, squares);
  int64_t first = 0;
  for (const Copies& copies : copies_) {
    const Weight& weight = *copies.weight;
    const int64_t held = weight.is_expert() ? weight.experts().count : 1;
    const int64_t at = first + weight.experts().first;
    for (int64_t i = 0; i < held && copies.counted_here(); ++i) {
      const TensorView gradient =
          weight.is_expert() ? weight.gradient().rows(i, i + 1) : weight.gradient();
      sum_of_squares(ctx, gradient, squares.rows(at + i, at + i + 1));
    }
    first += weight.is_expert() ? weight.experts().total : 1;
  }
  world_.all_reduce(ctx.stream, squares, ReduceOp::kSum)->wait();
  const auto all = host_values<double>(ctx, squares);
  const bool left_out = ctx.ordered && host_values<int64_t>(ctx, ctx.ordered->refused).front() > 0;
  return left_out ? std::numeric_limits<double>::infinity()
                  : std::sqrt(std::accumulate(all.begin(), all.end(), 0.0));
}

void WeightReplicas::share_updates(ExecContext& ctx) const {
  for (const Copies& copies : copies_) {
    if (copies.owner == kEveryHolder) continue;
    copies.holders->broadcast(ctx.stream, copies.weight->master(), copies.owner)->wait();
    if (!copies.owned_here()) copies.weight->master_changed();
  }
}

double clip_factor(double norm, double clip_norm) {
  return norm > clip_norm ? clip_norm / norm : 1.0;
}

}  // namespace switchyard
