#include "layers/attention_layer.h"

#include <cmath>

#include "base/reused_memory.h"

namespace switchyard {

static AttentionLayer::Options completed(AttentionLayer::Options options) {
  if (options.kv_heads == 0) options.kv_heads = options.heads;
  return options;
}

AttentionLayer::AttentionLayer(const std::string& name, const Options& given, DType dtype,
                               Memory& memory, uint64_t seed)
    : options_(completed(given)),
      q_(name + ".q", WeightRole::kDense, dtype, {options_.heads * options_.d_kv, options_.d_model},
         memory),
      k_(name + ".k", WeightRole::kDense, dtype,
         {options_.kv_heads * options_.d_kv, options_.d_model}, memory),
      v_(name + ".v", WeightRole::kDense, dtype, k_.shape(), memory),
      o_(name + ".o", WeightRole::kDense, dtype, {options_.d_model, options_.heads * options_.d_kv},
         memory) {
  const auto d_model = static_cast<double>(options_.d_model);
  const auto d_kv = static_cast<double>(options_.d_kv);
  const auto start = [&](Weight& weight, double t5_variance) {
    initialise(weight, options_.init.matrix_or(Initial::normal(1.0 / std::sqrt(t5_variance))),
               seed);
  };
  start(q_, d_model * d_kv);
  start(k_, d_model);
  start(v_, d_model);
  start(o_, static_cast<double>(options_.heads) * d_kv);
  if (options_.qk_norm == QkNorm::kNone) return;
  const auto make_norm = [&](std::optional<RmsNormLayer>& norm, const char* suffix, int64_t heads) {
    norm.emplace(name + suffix, norm_shape(1, heads)[1], options_.norm_epsilon, dtype, memory,
                 options_.norm_rounding);
  };
  make_norm(q_norm_, ".q_norm", options_.heads);
  make_norm(k_norm_, ".k_norm", options_.kv_heads);
}

Shape AttentionLayer::norm_shape(int64_t tokens, int64_t heads) const {
  if (options_.qk_norm == QkNorm::kPerHead) return {tokens * heads, options_.d_kv};
  return {tokens, heads * options_.d_kv};
}

TensorView AttentionLayer::project(LayerContext& ctx, const Source& source,
                                   const Projection& projection, TensorView rotation,
                                   RmsNormLayer::Saved& norm_saved) {
  const int64_t tokens = source.rows.tokens(), heads = projection.heads;
  TensorView y = ctx.saved.allocate(source.x.dtype(), {tokens, heads * options_.d_kv});
  linear(ctx, source.x, projection.weight, y);
  if (projection.norm != nullptr && *projection.norm) {
    y = (*projection.norm)->forward(ctx, y.reshape(norm_shape(tokens, heads)), norm_saved);
  }
  if (projection.norm != nullptr && !rotation.absent()) {
    const TensorView by_head = y.reshape({tokens, heads, options_.d_kv});
    rotate(ctx, by_head, rotation, Rotation::kForward, by_head);
  }
  return y.reshape({source.rows.sequences, source.rows.length, heads, options_.d_kv});
}

void AttentionLayer::project_backward(LayerContext& ctx, const Source& source,
                                      const Projection& projection, TensorView rotation,
                                      const RmsNormLayer::Saved& norm_saved, TensorView dheads,
                                      TensorView dx, Write write) {
  const ScratchScope scope(ctx.scratch);
  const int64_t tokens = source.rows.tokens(), heads = projection.heads;
  if (projection.norm != nullptr && !rotation.absent()) {
    const TensorView by_head = dheads.reshape({tokens, heads, options_.d_kv});
    rotate(ctx, by_head, rotation, Rotation::kBackward, by_head);
  }
  const Shape projected{tokens, heads * options_.d_kv};
  if (projection.norm != nullptr && *projection.norm) {
    const Shape rows = norm_shape(tokens, heads);
    ReusedVector<int64_t> leaves(source.rows.group_offsets.begin(),
                                 source.rows.group_offsets.end());
    if (options_.qk_norm == QkNorm::kPerHead) {
      for (int64_t& offset : leaves) offset *= heads;
    }
    const TensorView dnormed = dheads.reshape(rows);
    dheads = ctx.scratch.allocate(dx.dtype(), projected);
    (*projection.norm)
        ->backward(ctx, leaves, norm_saved, dnormed, dheads.reshape(rows), Write::kOverwrite);
  }
  linear_weight_gradient(ctx, source.x, dheads.reshape(projected), source.rows.group_offsets,
                         projection.weight);
  linear_input_gradient(ctx, dheads.reshape(projected), projection.weight, dx, write);
}

AttentionInput AttentionLayer::input(const LayerContext& ctx, const Source& queries,
                                     const Source& keys, const PositionEncoding& positions,
                                     const Saved& saved) const {
  AttentionInput in{
      .q = saved.q, .k = saved.k, .v = saved.v, .distance_bias = positions.distance_bias};
  in.mask = {
      .key_segment = keys.rows.segment, .causal = options_.causal, .window = options_.window};
  if (queries.rows.packed) in.mask.query_segment = queries.rows.segment;
  in.scale = options_.scale;
  in.dropout_rate = ctx.training ? options_.dropout : 0.0;
  in.random = ctx.random(queries.rows, options_.layer, options_.dropout_purpose);
  return in;
}

TensorView AttentionLayer::output(LayerContext& ctx, const TokenRows& rows, TensorView heads) {
  const TensorView y = ctx.saved.allocate(heads.dtype(), {rows.tokens(), options_.d_model});
  linear(ctx, heads.reshape({rows.tokens(), options_.heads * options_.d_kv}), o_, y);
  return y;
}

TensorView AttentionLayer::forward(LayerContext& ctx, const Source& queries, const Source& keys,
                                   const PositionEncoding& positions, Saved& saved) {
  const DType dtype = queries.x.dtype();
  const TokenRows& rows = queries.rows;
  RmsNormLayer::Saved of_values;
  saved.q = project(ctx, queries, queries_of(), positions.rotation, saved.q_norm);
  saved.k = project(ctx, keys, keys_of(), positions.rotation, saved.k_norm);
  saved.v = project(ctx, keys, values_of(), positions.rotation, of_values);
  saved.out = ctx.saved.allocate(dtype, saved.q.shape());
  saved.log_sum_exp =
      ctx.saved.allocate(accurate(dtype), {rows.sequences, options_.heads, rows.length});
  attention(ctx, input(ctx, queries, keys, positions, saved), saved.out, saved.log_sum_exp);
  return output(ctx, rows, saved.out);
}

void AttentionLayer::backward(LayerContext& ctx, const Source& queries, const Source& keys,
                              const PositionEncoding& positions, const Saved& saved, TensorView dy,
                              TensorView dqueries, TensorView dkeys, Write keys_write,
                              TensorView ddistance_bias) {
  const ScratchScope scope(ctx.scratch);
  const DType dtype = dy.dtype();
  const TokenRows& rows = queries.rows;
  const Shape by_token{rows.tokens(), options_.heads * options_.d_kv};

  const TensorView dout = ctx.scratch.allocate(dtype, saved.out.shape());
  linear_weight_gradient(ctx, saved.out.reshape(by_token), dy, rows.group_offsets, o_);
  linear_input_gradient(ctx, dy, o_, dout.reshape(by_token), Write::kOverwrite);

  const TensorView dq = ctx.scratch.allocate(dtype, saved.q.shape());
  const TensorView dk = ctx.scratch.allocate(dtype, saved.k.shape());
  const TensorView dv = ctx.scratch.allocate(dtype, saved.v.shape());
  attention_backward(ctx, input(ctx, queries, keys, positions, saved), saved.out, saved.log_sum_exp,
                     dout, rows.group_sequences, dq, dk, dv, ddistance_bias);

  const TensorView rotation = positions.rotation;
  project_backward(ctx, queries, queries_of(), rotation, saved.q_norm, dq, dqueries,
                   Write::kOverwrite);
  project_backward(ctx, keys, keys_of(), rotation, saved.k_norm, dk, dkeys, keys_write);
  project_backward(ctx, keys, values_of(), rotation, {}, dv, dkeys, Write::kAccumulate);
}

KeyValueCache AttentionLayer::make_cache(ExecContext& ctx, int64_t sequences, int64_t capacity,
                                         DType activations) const {
  const Shape shape{sequences, capacity, options_.kv_heads, options_.d_kv};
  Memory& memory = ctx.kernels.memory();
  KeyValueCache cache{Tensor(activations, shape, memory), Tensor(activations, shape, memory)};
  // Positions that aren't there yet have weight 0, which must not meet a NaN.
  fill_zero(ctx, cache.k);
  fill_zero(ctx, cache.v);
  return cache;
}

// rows [B, S, ...] into places `first`.. of each sequence of `cache` [B, capacity, ...].
static void put_behind(LayerContext& ctx, TensorView rows, int64_t first, TensorView cache) {
  const int64_t sequences = rows.shape()[0], length = rows.shape()[1], capacity = cache.shape()[1];
  if (rows.elements() == 0) return;
  const int64_t width = rows.elements() / (sequences * length);
  const TensorView from = rows.reshape({sequences * length, width});
  const TensorView to = cache.reshape({sequences * capacity, width});
  for (int64_t b = 0; b < sequences; ++b) {
    const int64_t place = b * capacity + first;
    copy(ctx, from.rows(b * length, (b + 1) * length), to.rows(place, place + length));
  }
}

void AttentionLayer::extend(LayerContext& ctx, const Source& keys,
                            const PositionEncoding& positions, KeyValueCache& cache) {
  SWITCHYARD_CHECK(cache.length + keys.rows.length <= cache.capacity(), cache.length, " + ",
                   keys.rows.length, " positions in a cache of ", cache.capacity());
  const ScratchScope scope(ctx.saved);
  RmsNormLayer::Saved norm, of_values;
  put_behind(ctx, project(ctx, keys, keys_of(), positions.rotation, norm), cache.length, cache.k);
  put_behind(ctx, project(ctx, keys, values_of(), positions.rotation, of_values), cache.length,
             cache.v);
  cache.length += keys.rows.length;
}

TensorView AttentionLayer::attend(LayerContext& ctx, const Source& queries,
                                  const KeyValueCache& cache, TensorView key_segment,
                                  const PositionEncoding& positions) {
  const TokenRows& rows = queries.rows;
  Saved saved{.k = cache.k, .v = cache.v};
  saved.q = project(ctx, queries, queries_of(), positions.rotation, saved.q_norm);
  saved.out = ctx.saved.allocate(queries.x.dtype(), saved.q.shape());
  saved.log_sum_exp = ctx.saved.allocate(accurate(queries.x.dtype()),
                                         {rows.sequences, options_.heads, rows.length});
  AttentionInput in{.q = saved.q,
                    .k = cache.k,
                    .v = cache.v,
                    .distance_bias = positions.distance_bias,
                    .mask = {.key_segment = key_segment},
                    .scale = options_.scale};
  if (options_.causal) {
    in.mask.causal = true;
    in.mask.window = options_.window;
    in.mask.query_start = cache.length - rows.length;
  }
  attention(ctx, in, saved.out, saved.log_sum_exp);
  return output(ctx, rows, saved.out);
}

void AttentionLayer::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&q_, &k_, &v_, &o_});
  if (q_norm_) q_norm_->collect_weights(weights);
  if (k_norm_) k_norm_->collect_weights(weights);
}

}  // namespace switchyard
