// An encoder or a decoder: blocks that share one encoding of positions (T5's relative bias, or
// rotation), then a norm. Embedding comes from outside, since both stacks and the head may share
// it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "layers/relative_position_bias.h"
#include "models/block.h"
#include "moe/moe_layer.h"

namespace switchyard {

class Stack : public Module {
 public:
  struct Options {
    Block::Options block;  // `number` is filled in
    // One of the two.
    std::optional<RelativePositionBias::Options> position_bias = {};
    std::optional<double> rope_theta = {};  // see rotary_table
    // In training only each block's input and its mixtures' decisions are kept; backward runs the
    // block's forward again.
    bool recompute = false;
  };
  struct Saved {
    PositionEncoding positions;
    std::vector<TensorView> inputs;  // of each block, [T, D]
    std::vector<Block::Saved> blocks;
    RmsNormLayer::Saved final_norm;
  };

  // What generation has computed of the tokens so far.
  struct Cache {
    std::vector<Block::Cache> blocks;
    Tensor segment;         // int32 [B, capacity]: 0 for padding and for what isn't there yet
    Tensor memory_segment;  // int32 [B, Se], where there is an encoder
    int64_t length = 0;     // positions filled

    int64_t capacity() const { return segment.shape()[1]; }
  };

  //   feed_forwards  one per block
  Stack(const Options& options, std::vector<std::unique_ptr<FeedForward>> feed_forwards,
        DType dtype, Memory& memory, uint64_t seed);

  // What one micro-batch needs; made once, filled by every forward.
  Saved make_saved() const;

  //   h        [T, D]: embedded tokens; dropped out in place
  //   memory   null in encoders
  //   hidden   if given, receives the input of each block (for comparison with other systems)
  //   returns  [T, D] in ctx.saved, after the final norm and dropout
  TensorView forward(LayerContext& ctx, const TokenRows& rows, TensorView h,
                     const Block::Memory* memory, Saved& saved,
                     std::vector<TensorView>* hidden = nullptr);
  // Turns dh [T, D] into the gradient of the embedded tokens, in place. Where blocks are
  // recomputed, their part of `saved` is filled again on the way.
  void backward(LayerContext& ctx, const TokenRows& rows, const Block::Memory* memory, Saved& saved,
                TensorView dh);

  // Room for `capacity` positions of each of `sequences` sequences.
  //   memory  the encoder's output, or null; only its rows' segments are looked at again
  Cache make_cache(LayerContext& ctx, int64_t sequences, int64_t capacity, DType activations,
                   const Block::Memory* memory);
  // Generation: as forward for the tokens that follow those of the cache, in all sequences alike,
  // and takes them into it. Prompts of different lengths are aligned at their ends: padding in
  // front has segment 0, and rows.position counts from the first real token.
  //   rows.segment  int32 [B, S] or absent: no padding
  //   saved         work space; nothing of it is for backward
  TensorView step(LayerContext& ctx, const TokenRows& rows, TensorView h, Cache& cache,
                  Saved& saved);

  void collect_weights(std::vector<Weight*>& weights) override;
  // Those of the blocks that aren't dense.
  std::vector<MoeLayer*> moe_layers() const;
  // Adds what the forward behind `saved` did to the mixtures' observations.
  void observe(LayerContext& ctx, const TokenRows& rows, const Saved& saved) const;
  // What the last forward into `saved` decided, a mixture each.
  static std::vector<MoeDecisions*> decisions(Saved& saved);
  // The same for comparison with other systems, one entry per block, null where it is dense.
  static std::vector<const MoeLayer::Saved*> mixtures(const Saved& saved);

 private:
  void drop(LayerContext& ctx, const TokenRows& rows, TensorView h, Purpose purpose) const;
  // Of rows whose first token stands at `start` among `keys` keys.
  //   dtype  of the encoding, accurate for the activations
  PositionEncoding encode_positions(LayerContext& ctx, const TokenRows& rows, DType dtype,
                                    int64_t keys, int64_t start);
  bool recomputes(const LayerContext& ctx) const { return options_.recompute && ctx.training; }

  Options options_;
  std::optional<RelativePositionBias> position_bias_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<MoeLayer*> moe_layers_;  // of each block; null where it is dense
  RmsNormLayer final_norm_;
};

}  // namespace switchyard
