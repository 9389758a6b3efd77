// An encoder or a decoder: blocks that share one relative position bias, then a norm. Embedding
// comes from outside, since both stacks and the head may share it.
#pragma once

#include <memory>
#include <vector>

#include "layers/relative_position_bias.h"
#include "models/block.h"
#include "moe/moe_layer.h"

namespace switchyard {

class Stack : public Module {
 public:
  struct Options {
    Block::Options block;  // `number` is filled in
    RelativePositionBias::Options position_bias;
    // In training only each block's input and its mixtures' decisions are kept; backward runs the
    // block's forward again.
    bool recompute = false;
  };
  struct Saved {
    TensorView distance_bias;        // [H, 2S - 1]
    std::vector<TensorView> inputs;  // of each block, [T, D]
    std::vector<Block::Saved> blocks;
    RmsNormLayer::Saved final_norm;
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

  void collect_weights(std::vector<Weight*>& weights) override;
  // The mixture layer of each block; null where the block is dense.
  const std::vector<MoeLayer*>& moe_layers() const { return moe_layers_; }

 private:
  void drop(LayerContext& ctx, const TokenRows& rows, TensorView h, Purpose purpose) const;
  bool recomputes(const LayerContext& ctx) const { return options_.recompute && ctx.training; }

  Options options_;
  RelativePositionBias position_bias_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<MoeLayer*> moe_layers_;
  RmsNormLayer final_norm_;
};

}  // namespace switchyard
