// One pre-norm transformer block: self-attention, cross-attention in decoders that have an encoder,
// feed-forward, each as h += dropout(sublayer(norm(h))). The order of T5 (Raffel 2020) and of
// Mixtral (Jiang 2024).
#pragma once

#include <memory>
#include <optional>

#include "layers/attention_layer.h"
#include "layers/feed_forward.h"
#include "layers/rms_norm_layer.h"

namespace switchyard {

class Block : public Module {
 public:
  struct Options {
    int64_t d_model = 0, d_kv = 0, heads = 0;
    // Of self-attention, see AttentionLayer::Options.
    int64_t kv_heads = 0, window = 0;
    double attention_scale = 1.0;
    QkNorm qk_norm = QkNorm::kNone;
    double norm_epsilon = 1e-6;
    NormRounding norm_rounding = NormRounding::kOnce;
    double dropout = 0.0;
    StackKind stack = StackKind::kEncoder;  // a decoder is causal
    bool decoder_only = false;              // else it attends to an encoder too
    int64_t number = 0;                     // in its stack, from 0
    Initialisation init;
  };
  struct Sublayer {
    RmsNormLayer::Saved norm;
    TensorView normed;  // [T, D]
    AttentionLayer::Saved attention;
  };
  struct Saved {
    Sublayer self, cross, ffn;
    std::unique_ptr<FeedForward::Saved> feed_forward;
  };
  // What a decoder's blocks see of the encoder, and where its gradient is added up.
  struct Memory {
    const TokenRows* rows = nullptr;
    TensorView x;   // [Te, D]
    TensorView dx;  // [Te, D]: backward adds to it
  };

  // Keys and values that generation has computed: of the tokens so far, and of the encoder's output
  // where there is one.
  struct Cache {
    KeyValueCache self, cross;
  };
  // Which keys of each are there, int32 [B, capacity]: see AttentionLayer::attend.
  struct CachedSegments {
    TensorView self, cross;
  };

  // Weights under "<stack>.block.<number>.": self_attention, self_attention_norm, cross_attention,
  // cross_attention_norm, ffn_norm, and those of the feed-forward layer.
  Block(const Options& options, std::unique_ptr<FeedForward> feed_forward, DType dtype,
        switchyard::Memory& memory, uint64_t seed);

  Saved make_saved() const;

  //   memory   null where there is no encoder
  //   returns  [T, D] in ctx.saved
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView h,
                     const PositionEncoding& positions, const Memory* memory, Saved& saved);
  // Turns dh, d(loss)/d(output), into d(loss)/d(input) in place: the residual stream's gradient.
  //   ddistance_bias  [leaves, H, 2S - 1] or absent: overwritten
  void backward(LayerContext& ctx, const TokenRows& rows, const PositionEncoding& positions,
                const Memory* memory, const Saved& saved, TensorView dh, TensorView ddistance_bias);

  //   memory  the encoder's output, or null
  Cache make_cache(LayerContext& ctx, int64_t sequences, int64_t capacity, DType activations,
                   const Memory* memory);
  // Generation: the forward pass of the tokens behind those of the cache, which takes them in.
  //   saved  work space; nothing of it is for backward
  TensorView step(LayerContext& ctx, const TokenRows& rows, TensorView h,
                  const PositionEncoding& positions, const CachedSegments& segments, Cache& cache,
                  Saved& saved);

  void collect_weights(std::vector<Weight*>& weights) override;
  FeedForward& feed_forward() { return *feed_forward_; }

 private:
  // h with the feed-forward sublayer's part.
  TensorView feed(LayerContext& ctx, const TokenRows& rows, TensorView h, Saved& saved);
  // h + dropout(y), in ctx.saved.
  TensorView add_residual(LayerContext& ctx, const TokenRows& rows, TensorView h, TensorView y,
                          Purpose purpose) const;
  // dropout(dh) in scratch: the gradient of the sublayer's output; dh itself where nothing is
  // dropped.
  TensorView sublayer_gradient(LayerContext& ctx, const TokenRows& rows, TensorView dh,
                               Purpose purpose) const;

  Options options_;
  RmsNormLayer self_norm_, ffn_norm_;
  AttentionLayer self_attention_;
  std::optional<RmsNormLayer> cross_norm_;
  std::optional<AttentionLayer> cross_attention_;
  std::unique_ptr<FeedForward> feed_forward_;
};

// "encoder" or "decoder".
const char* name_of(StackKind stack);
// "encoder.block.3"
std::string block_name(StackKind stack, int64_t number);

}  // namespace switchyard
