#include "models/stack.h"

namespace switchyard {

Stack::Stack(const Options& options, std::vector<std::unique_ptr<FeedForward>> feed_forwards,
             DType dtype, Memory& memory, uint64_t seed)
    : options_(options),
      position_bias_(std::string(name_of(options.block.stack)) + ".position_bias",
                     options.position_bias, dtype, memory, seed),
      final_norm_(std::string(name_of(options.block.stack)) + ".final_norm", options.block.d_model,
                  options.block.norm_epsilon, dtype, memory) {
  position_bias_.table().set_writes_per_leaf(static_cast<int64_t>(feed_forwards.size()));
  for (auto& feed_forward : feed_forwards) {
    moe_layers_.push_back(dynamic_cast<MoeLayer*>(feed_forward.get()));
    Block::Options block = options.block;
    block.number = static_cast<int64_t>(blocks_.size());
    blocks_.push_back(std::make_unique<Block>(block, std::move(feed_forward), dtype, memory, seed));
  }
}

Stack::Saved Stack::make_saved() const {
  Saved saved;
  for (const auto& block : blocks_) saved.blocks.push_back(block->make_saved());
  saved.inputs.resize(blocks_.size());
  return saved;
}

void Stack::drop(LayerContext& ctx, const TokenRows& rows, TensorView h, Purpose purpose) const {
  if (!ctx.training || options_.block.dropout == 0) return;
  const uint16_t layer = layer_id(options_.block.stack, 0);
  dropout(ctx, h, options_.block.dropout, ctx.random(rows, layer, purpose), h);
}

TensorView Stack::forward(LayerContext& ctx, const TokenRows& rows, TensorView h,
                          const Block::Memory* memory, Saved& saved,
                          std::vector<TensorView>* hidden) {
  drop(ctx, rows, h, Purpose::kEmbeddingDropout);
  saved.distance_bias = position_bias_.forward(ctx, rows.length, rows.length);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (hidden) hidden->push_back(h);
    saved.inputs[i] = h;
    if (!recomputes(ctx)) {
      h = blocks_[i]->forward(ctx, rows, h, saved.distance_bias, memory, saved.blocks[i]);
      continue;
    }
    const TensorView output = ctx.saved.allocate(h.dtype(), h.shape());
    const ScratchScope dropped(ctx.saved);
    copy(ctx, blocks_[i]->forward(ctx, rows, h, saved.distance_bias, memory, saved.blocks[i]),
         output);
    h = output;
  }
  const TensorView y = final_norm_.forward(ctx, h, saved.final_norm);
  drop(ctx, rows, y, Purpose::kFinalDropout);
  return y;
}

void Stack::backward(LayerContext& ctx, const TokenRows& rows, const Block::Memory* memory,
                     Saved& saved, TensorView dh) {
  drop(ctx, rows, dh, Purpose::kFinalDropout);
  {
    const ScratchScope scope(ctx.scratch);
    const TensorView dnorm = ctx.scratch.allocate(dh.dtype(), dh.shape());
    copy(ctx, dh, dnorm);
    final_norm_.backward(ctx, rows.group_offsets, saved.final_norm, dnorm, dh, Write::kOverwrite);
  }
  const int64_t distances = saved.distance_bias.shape()[1];
  for (size_t i = blocks_.size(); i-- > 0;) {
    const ScratchScope scope(ctx.scratch);
    const ScratchScope recomputed(ctx.saved);
    if (recomputes(ctx)) {
      LayerContext again = ctx;
      again.replay = true;
      blocks_[i]->forward(again, rows, saved.inputs[i], saved.distance_bias, memory,
                          saved.blocks[i]);
    }
    const TensorView dbias = ctx.scratch.allocate(saved.distance_bias.dtype(),
                                                  {rows.groups(), options_.block.heads, distances});
    blocks_[i]->backward(ctx, rows, saved.distance_bias, memory, saved.blocks[i], dh, dbias);
    position_bias_.backward(ctx, dbias, rows.length, rows.length);
  }
  drop(ctx, rows, dh, Purpose::kEmbeddingDropout);
}

void Stack::collect_weights(std::vector<Weight*>& weights) {
  position_bias_.collect_weights(weights);
  for (const auto& block : blocks_) block->collect_weights(weights);
  final_norm_.collect_weights(weights);
}

}  // namespace switchyard
