#include "optim/gradients.h"

#include <algorithm>
#include <cmath>

#include "ops/kernels.h"

namespace switchyard {

void reduce_gradients(ExecContext& ctx, const Groups& groups, std::span<Weight* const> weights) {
  for (Weight* weight : weights) {
    if (!weight->gradient_written()) fill_zero(ctx, weight->gradient());
    Collectives& holders = weight->is_expert() ? *groups.replica : *groups.world;
    holders.all_reduce(ctx.stream, weight->gradient(), ReduceOp::kSum)->wait();
  }
}

double gradient_norm(ExecContext& ctx, const Groups& groups, std::span<Weight* const> weights) {
  const ScratchScope scope(ctx.scratch);
  const auto count = static_cast<int64_t>(weights.size());
  const TensorView squares = ctx.scratch.allocate(DType::kFloat64, {count});
  fill_zero(ctx, squares);
  for (int64_t i = 0; i < count; ++i) {
    sum_of_squares(ctx, weights[static_cast<size_t>(i)]->gradient(), squares.rows(i, i + 1));
  }
  const auto local = read_back_as<double>(ctx, squares);
  double dense = 0, expert = 0;
  for (size_t i = 0; i < local.size(); ++i) (weights[i]->is_expert() ? expert : dense) += local[i];

  const TensorView expert_sum = squares.rows(0, std::min<int64_t>(1, count));
  if (count > 0) {
    upload(ctx, std::span<const double>(&expert, 1), expert_sum);
    groups.expert->all_reduce(ctx.stream, expert_sum, ReduceOp::kSum)->wait();
    expert = read_back_as<double>(ctx, expert_sum).front();
  }
  return std::sqrt(dense + expert);
}

double clip_factor(double norm, double clip_norm) {
  return norm > clip_norm ? clip_norm / norm : 1.0;
}

}  // namespace switchyard
