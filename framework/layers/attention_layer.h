// Multi-head attention with its four projections, for self-attention and cross-attention: T5's,
// with neither biases nor 1/sqrt(d) (folded into q's first values), and that of decoder-only
// models, with rotary positions, grouped queries, a sliding window and norms of queries and keys.
#pragma once

#include <optional>

#include "layers/initialise.h"
#include "layers/layer_context.h"
#include "layers/module.h"
#include "layers/rms_norm_layer.h"

namespace switchyard {

// Norms of queries and keys before rotation: none; of each head's d features with one weight [d]
// (Qwen3); of all heads' features together (OLMoE).
enum class QkNorm : uint8_t { kNone, kPerHead, kWhole };

// How attention learns of positions; a stack makes it once for all blocks. Each may be absent.
struct PositionEncoding {
  TensorView distance_bias;  // accurate dtype [H, Sq + Sk - 1], see AttentionInput
  TensorView rotation;       // accurate dtype [T, d]: rotary_table of the tokens, self-attention
};

// Keys and values of tokens that were computed before, for generation.
struct KeyValueCache {
  Tensor k, v;         // [B, capacity, Hkv, d]
  int64_t length = 0;  // positions filled, the same in all sequences

  int64_t capacity() const { return k.shape()[1]; }
};

class AttentionLayer : public Module {
 public:
  struct Options {
    int64_t d_model = 0, d_kv = 0, heads = 0;
    int64_t kv_heads = 0;  // each serves heads / kv_heads heads; 0: as many as heads
    double scale = 1.0;
    bool causal = false;
    int64_t window = 0;  // > 0: keys that a query sees, its own among them
    QkNorm qk_norm = QkNorm::kNone;
    double norm_epsilon = 1e-6;
    NormRounding norm_rounding = NormRounding::kOnce;
    double dropout = 0.0;  // on the attention weights
    Purpose dropout_purpose = Purpose::kAttentionDropout;
    uint16_t layer = 0;  // see layer_id
    Initialisation init;
  };
  // Where queries and keys come from; for self-attention both are the same.
  struct Source {
    const TokenRows& rows;
    TensorView x;  // [T, D], must live until backward
  };
  struct Saved {
    RmsNormLayer::Saved q_norm, k_norm;
    TensorView q, out;       // [B, S, H, d]
    TensorView k, v;         // [B, S, Hkv, d]
    TensorView log_sum_exp;  // [B, H, Sq]
  };

  // Weights name.q [H*d, D], name.k and name.v [Hkv*d, D], name.o [D, H*d], with norms name.q_norm
  // and name.k_norm. They start as Mesh-TensorFlow's where options.init sets no deviation: normal
  // with deviations (D*d)^-1/2, D^-1/2, D^-1/2, (H*d)^-1/2.
  AttentionLayer(const std::string& name, const Options& options, DType dtype, Memory& memory,
                 uint64_t seed);

  //   returns  [Tq, D] in ctx.saved
  TensorView forward(LayerContext& ctx, const Source& queries, const Source& keys,
                     const PositionEncoding& positions, Saved& saved);

  // Adds to the weights' gradients. Where queries and keys are one tensor, dkeys may be dqueries:
  // the sum is what stands there then.
  //   dqueries        [Tq, D]: overwritten
  //   dkeys           [Tk, D]: written as `keys_write` says, after dqueries
  //   ddistance_bias  [leaves, H, Sq + Sk - 1] or absent: overwritten
  void backward(LayerContext& ctx, const Source& queries, const Source& keys,
                const PositionEncoding& positions, const Saved& saved, TensorView dy,
                TensorView dqueries, TensorView dkeys, Write keys_write, TensorView ddistance_bias);

  // Generation, below, keeps nothing for backward.

  // An empty cache for `capacity` positions of each sequence.
  KeyValueCache make_cache(ExecContext& ctx, int64_t sequences, int64_t capacity,
                           DType activations) const;
  // Puts keys and values of the next positions behind those of the cache.
  void extend(LayerContext& ctx, const Source& keys, const PositionEncoding& positions,
              KeyValueCache& cache);
  // Attends to the keys of the cache; where the layer is causal, the queries are its last
  // positions.
  //   positions.distance_bias  [H, Sq + capacity - 1]
  //   key_segment              int32 [B, capacity]: 0 for padding and for what isn't there yet
  //   returns                  [Tq, D] in ctx.saved
  TensorView attend(LayerContext& ctx, const Source& queries, const KeyValueCache& cache,
                    TensorView key_segment, const PositionEncoding& positions);

  void collect_weights(std::vector<Weight*>& weights) override;

 private:
  // x W^T as heads [B, S, heads, d], normed and rotated as queries and keys are; values are
  // neither.
  struct Projection {
    Weight& weight;
    std::optional<RmsNormLayer>* norm;  // null for values
    int64_t heads;
  };
  TensorView project(LayerContext& ctx, const Source& source, const Projection& projection,
                     TensorView rotation, RmsNormLayer::Saved& norm_saved);
  // From d(loss)/d(heads), which it overwrites, to the gradients of the weights and dx.
  void project_backward(LayerContext& ctx, const Source& source, const Projection& projection,
                        TensorView rotation, const RmsNormLayer::Saved& norm_saved,
                        TensorView dheads, TensorView dx, Write write);
  // The rows that a norm sees of a projection [T, heads * d].
  Shape norm_shape(int64_t tokens, int64_t heads) const;
  TensorView output(LayerContext& ctx, const TokenRows& rows, TensorView heads);
  AttentionInput input(const LayerContext& ctx, const Source& queries, const Source& keys,
                       const PositionEncoding& positions, const Saved& saved) const;

  Projection queries_of() { return {q_, &q_norm_, options_.heads}; }
  Projection keys_of() { return {k_, &k_norm_, options_.kv_heads}; }
  Projection values_of() { return {v_, nullptr, options_.kv_heads}; }

  Options options_;
  Weight q_, k_, v_, o_;
  std::optional<RmsNormLayer> q_norm_, k_norm_;
};

}  // namespace switchyard
