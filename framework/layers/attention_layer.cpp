#include "layers/attention_layer.h"

#include <cmath>

#include "layers/initialise.h"

namespace switchyard {

AttentionLayer::AttentionLayer(const std::string& name, const Options& options, DType dtype,
                               Memory& memory, uint64_t seed)
    : options_(options),
      q_(name + ".q", WeightRole::kDense, dtype, {options.heads * options.d_kv, options.d_model},
         memory),
      k_(name + ".k", WeightRole::kDense, dtype, q_.shape(), memory),
      v_(name + ".v", WeightRole::kDense, dtype, q_.shape(), memory),
      o_(name + ".o", WeightRole::kDense, dtype, {options.d_model, options.heads * options.d_kv},
         memory) {
  const auto d_model = static_cast<double>(options.d_model);
  const auto d_kv = static_cast<double>(options.d_kv);
  initialise(q_, Initial::normal(1.0 / std::sqrt(d_model * d_kv)), seed);
  initialise(k_, Initial::normal(1.0 / std::sqrt(d_model)), seed);
  initialise(v_, Initial::normal(1.0 / std::sqrt(d_model)), seed);
  initialise(o_, Initial::normal(1.0 / std::sqrt(static_cast<double>(options.heads) * d_kv)), seed);
}

AttentionInput AttentionLayer::input(const LayerContext& ctx, const Source& queries,
                                     const Source& keys, TensorView distance_bias,
                                     const Saved& saved) const {
  AttentionInput in{.q = saved.q, .k = saved.k, .v = saved.v, .distance_bias = distance_bias};
  in.mask = {.key_segment = keys.rows.segment, .causal = options_.causal};
  if (queries.rows.packed) in.mask.query_segment = queries.rows.segment;
  in.scale = options_.scale;
  in.dropout_rate = ctx.training ? options_.dropout : 0.0;
  in.random = ctx.random(queries.rows, options_.layer, options_.dropout_purpose);
  return in;
}

TensorView AttentionLayer::forward(LayerContext& ctx, const Source& queries, const Source& keys,
                                   TensorView distance_bias, Saved& saved) {
  const DType dtype = queries.x.dtype();
  const TokenRows &rows = queries.rows, &key_rows = keys.rows;
  const Shape by_query{rows.sequences, rows.length, options_.heads, options_.d_kv};
  const Shape by_key{key_rows.sequences, key_rows.length, options_.heads, options_.d_kv};
  const int64_t width = options_.heads * options_.d_kv;
  const auto project = [&](const Source& source, const Weight& weight, const Shape& shape) {
    const TensorView y = ctx.saved.allocate(dtype, shape);
    linear(ctx, source.x, weight, y.reshape({source.rows.tokens(), width}));
    return y;
  };
  saved.q = project(queries, q_, by_query);
  saved.k = project(keys, k_, by_key);
  saved.v = project(keys, v_, by_key);
  saved.out = ctx.saved.allocate(dtype, by_query);
  saved.log_sum_exp =
      ctx.saved.allocate(accurate(dtype), {rows.sequences, options_.heads, rows.length});
  attention(ctx, input(ctx, queries, keys, distance_bias, saved), saved.out, saved.log_sum_exp);

  const TensorView y = ctx.saved.allocate(dtype, {rows.tokens(), options_.d_model});
  linear(ctx, saved.out.reshape({rows.tokens(), width}), o_, y);
  return y;
}

void AttentionLayer::backward(LayerContext& ctx, const Source& queries, const Source& keys,
                              TensorView distance_bias, const Saved& saved, TensorView dy,
                              TensorView dqueries, TensorView dkeys, Write keys_write,
                              TensorView ddistance_bias) {
  const ScratchScope scope(ctx.scratch);
  const DType dtype = dy.dtype();
  const TokenRows &rows = queries.rows, &key_rows = keys.rows;
  const int64_t width = options_.heads * options_.d_kv;
  const Shape by_query{rows.tokens(), width}, by_key{key_rows.tokens(), width};

  const TensorView dout = ctx.scratch.allocate(dtype, by_query);
  linear_weight_gradient(ctx, saved.out.reshape(by_query), dy, rows.group_offsets, o_);
  linear_input_gradient(ctx, dy, o_, dout, Write::kOverwrite);

  const TensorView dq = ctx.scratch.allocate(dtype, by_query);
  const TensorView dk = ctx.scratch.allocate(dtype, by_key);
  const TensorView dv = ctx.scratch.allocate(dtype, by_key);
  attention_backward(ctx, input(ctx, queries, keys, distance_bias, saved), saved.out,
                     saved.log_sum_exp, dout.reshape(saved.q.shape()), rows.group_sequences,
                     dq.reshape(saved.q.shape()), dk.reshape(saved.k.shape()),
                     dv.reshape(saved.v.shape()), ddistance_bias);

  linear_weight_gradient(ctx, queries.x, dq, rows.group_offsets, q_);
  linear_input_gradient(ctx, dq, q_, dqueries, Write::kOverwrite);
  linear_weight_gradient(ctx, keys.x, dk, key_rows.group_offsets, k_);
  linear_input_gradient(ctx, dk, k_, dkeys, keys_write);
  linear_weight_gradient(ctx, keys.x, dv, key_rows.group_offsets, v_);
  linear_input_gradient(ctx, dv, v_, dkeys, Write::kAccumulate);
}

void AttentionLayer::collect_weights(std::vector<Weight*>& weights) {
  weights.insert(weights.end(), {&q_, &k_, &v_, &o_});
}

}  // namespace switchyard
