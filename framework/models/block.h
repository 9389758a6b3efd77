// One pre-norm transformer block: self-attention, cross-attention in decoders, feed-forward, each
// as h += dropout(sublayer(norm(h))). T5's order (Raffel 2020).
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
    double norm_epsilon = 1e-6;
    double dropout = 0.0;
    StackKind stack = StackKind::kEncoder;  // a decoder is causal and has cross-attention
    int64_t number = 0;                     // in its stack, from 0
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

  // Weights under "<stack>.block.<number>.": self_attention, self_attention_norm, cross_attention,
  // cross_attention_norm, ffn_norm, and those of the feed-forward layer.
  Block(const Options& options, std::unique_ptr<FeedForward> feed_forward, DType dtype,
        switchyard::Memory& memory, uint64_t seed);

  Saved make_saved() const;

  //   distance_bias  [H, 2S - 1] or absent
  //   memory         null in encoders
  //   returns        [T, D] in ctx.saved
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView h,
                     TensorView distance_bias, const Memory* memory, Saved& saved);
  // Turns dh, d(loss)/d(output), into d(loss)/d(input) in place: the residual stream's gradient.
  //   ddistance_bias  [leaves, H, 2S - 1] or absent: overwritten
  void backward(LayerContext& ctx, const TokenRows& rows, TensorView distance_bias,
                const Memory* memory, const Saved& saved, TensorView dh, TensorView ddistance_bias);

  void collect_weights(std::vector<Weight*>& weights) override;
  FeedForward& feed_forward() { return *feed_forward_; }

 private:
  bool decodes() const { return options_.stack == StackKind::kDecoder; }
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
