#include "layers/relative_position_bias.h"

#include <algorithm>
#include <cmath>

#include "base/reused_memory.h"
#include "layers/initialise.h"

namespace switchyard {

int32_t relative_position_bucket(int64_t distance, bool bidirectional, int64_t buckets,
                                 int64_t max_distance) {
  int64_t bucket = 0;
  if (bidirectional) {
    buckets /= 2;
    if (distance > 0) bucket = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(0, -distance);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return static_cast<int32_t>(bucket + distance);
  // In float32 and in the original's order. Distances that stand exactly on a boundary (16, 32 and
  // 64 of 32 buckets over 128) rely on quotients of the logarithms of powers of two coming out
  // exact, which tests hold against PyTorch's buckets.
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                      std::log(static_cast<float>(max_distance) / static_cast<float>(exact));
  const auto step = static_cast<int64_t>(ratio * static_cast<float>(buckets - exact));
  return static_cast<int32_t>(bucket + std::min(buckets - 1, exact + step));
}

RelativePositionBias::RelativePositionBias(const std::string& name, const Options& options,
                                           DType dtype, Memory& memory, uint64_t seed)
    : options_(options),
      table_(name, WeightRole::kPositionBias, dtype, {options.buckets, options.heads}, memory) {
  const auto fans = static_cast<double>(options.heads + options.buckets);
  initialise(table_, Initial::uniform(std::sqrt(6.0 / fans)), seed);
}

TensorView RelativePositionBias::buckets_for(LayerContext& ctx, int64_t queries, int64_t keys,
                                             int64_t query_start) const {
  ReusedVector<int32_t> bucket(static_cast<size_t>(queries + keys - 1));
  for (size_t i = 0; i < bucket.size(); ++i) {
    const int64_t distance = static_cast<int64_t>(i) - (queries - 1) - query_start;
    bucket[i] = relative_position_bucket(distance, options_.bidirectional, options_.buckets,
                                         options_.max_distance);
  }
  const TensorView on_device =
      ctx.scratch.allocate(DType::kInt32, {static_cast<int64_t>(bucket.size())});
  upload(ctx, std::span<const int32_t>(bucket), on_device);
  return on_device;
}

TensorView RelativePositionBias::forward(LayerContext& ctx, int64_t queries, int64_t keys,
                                         int64_t query_start) {
  const ScratchScope scope(ctx.scratch);
  const TensorView bias = ctx.saved.allocate(table_.dtype(), {options_.heads, queries + keys - 1});
  distance_bias(ctx, table_, buckets_for(ctx, queries, keys, query_start), bias);
  return bias;
}

void RelativePositionBias::backward(LayerContext& ctx, TensorView dbias, int64_t queries,
                                    int64_t keys) {
  const ScratchScope scope(ctx.scratch);
  distance_bias_gradient(ctx, dbias, buckets_for(ctx, queries, keys, 0), table_);
}

void RelativePositionBias::collect_weights(std::vector<Weight*>& weights) {
  weights.push_back(&table_);
}

}  // namespace switchyard
