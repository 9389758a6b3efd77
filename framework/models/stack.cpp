#include "models/stack.h"

namespace switchyard {

Stack::Stack(const Options& options, std::vector<std::unique_ptr<FeedForward>> feed_forwards,
             DType dtype, Memory& memory, uint64_t seed)
    : options_(options),
      final_norm_(std::string(name_of(options.block.stack)) + ".final_norm", options.block.d_model,
                  options.block.norm_epsilon, dtype, memory, options.block.norm_rounding) {
  if (options.position_bias) {
    position_bias_.emplace(std::string(name_of(options.block.stack)) + ".position_bias",
                           *options.position_bias, dtype, memory, seed);
    position_bias_->table().set_writes_per_leaf(static_cast<int64_t>(feed_forwards.size()));
  }
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

PositionEncoding Stack::encode_positions(LayerContext& ctx, const TokenRows& rows, DType dtype,
                                         int64_t keys, int64_t start) {
  PositionEncoding positions;
  if (position_bias_)
    positions.distance_bias = position_bias_->forward(ctx, rows.length, keys, start);
  if (options_.rope_theta) {
    positions.rotation = ctx.saved.allocate(dtype, {rows.tokens(), options_.block.d_kv});
    rotary_table(ctx, rows.position, *options_.rope_theta, positions.rotation);
  }
  return positions;
}

TensorView Stack::forward(LayerContext& ctx, const TokenRows& rows, TensorView h,
                          const Block::Memory* memory, Saved& saved,
                          std::vector<TensorView>* hidden) {
  drop(ctx, rows, h, Purpose::kEmbeddingDropout);
  saved.positions = encode_positions(ctx, rows, accurate(h.dtype()), rows.length, 0);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (hidden) hidden->push_back(h);
    saved.inputs[i] = h;
    if (!recomputes(ctx)) {
      h = blocks_[i]->forward(ctx, rows, h, saved.positions, memory, saved.blocks[i]);
      continue;
    }
    const TensorView output = ctx.saved.allocate(h.dtype(), h.shape());
    const ScratchScope dropped(ctx.saved);
    copy(ctx, blocks_[i]->forward(ctx, rows, h, saved.positions, memory, saved.blocks[i]), output);
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
  for (size_t i = blocks_.size(); i-- > 0;) {
    const ScratchScope scope(ctx.scratch);
    const ScratchScope recomputed(ctx.saved);
    if (recomputes(ctx)) {
      LayerContext again = ctx;
      again.replay = true;
      blocks_[i]->forward(again, rows, saved.inputs[i], saved.positions, memory, saved.blocks[i]);
    }
    TensorView dbias;
    if (position_bias_) {
      const TensorView bias = saved.positions.distance_bias;
      dbias = ctx.scratch.allocate(bias.dtype(),
                                   {rows.groups(), options_.block.heads, bias.shape()[1]});
    }
    blocks_[i]->backward(ctx, rows, saved.positions, memory, saved.blocks[i], dh, dbias);
    if (position_bias_) position_bias_->backward(ctx, dbias, rows.length, rows.length);
  }
  drop(ctx, rows, dh, Purpose::kEmbeddingDropout);
}

Stack::Cache Stack::make_cache(LayerContext& ctx, int64_t sequences, int64_t capacity,
                               DType activations, const Block::Memory* memory) {
  Cache cache;
  cache.segment = Tensor(DType::kInt32, {sequences, capacity}, ctx.kernels.memory());
  fill_zero(ctx, cache.segment);
  if (memory != nullptr && !memory->rows->segment.absent()) {
    const TensorView segment = memory->rows->segment;
    cache.memory_segment = Tensor(DType::kInt32, segment.shape(), ctx.kernels.memory());
    copy(ctx, segment, cache.memory_segment);
  }
  for (const auto& block : blocks_) {
    cache.blocks.push_back(block->make_cache(ctx, sequences, capacity, activations, memory));
  }
  return cache;
}

// What isn't padding among the new positions of the cache.
static void note_segments(LayerContext& ctx, const TokenRows& rows, Stack::Cache& cache) {
  const std::vector<int32_t> real(static_cast<size_t>(rows.length), 1);
  for (int64_t b = 0; b < rows.sequences; ++b) {
    const TensorView place = cache.segment.view().rows(b, b + 1).reshape({cache.capacity()});
    const TensorView target = place.rows(cache.length, cache.length + rows.length);
    if (rows.segment.absent()) {
      upload(ctx, std::span<const int32_t>(real), target);
    } else {
      copy(ctx, rows.segment.rows(b, b + 1).reshape({rows.length}), target);
    }
  }
}

TensorView Stack::step(LayerContext& ctx, const TokenRows& rows, TensorView h, Cache& cache,
                       Saved& saved) {
  SWITCHYARD_CHECK(cache.length + rows.length <= cache.capacity(), cache.length, " + ", rows.length,
                   " positions in a cache of ", cache.capacity());
  note_segments(ctx, rows, cache);
  const PositionEncoding positions =
      encode_positions(ctx, rows, accurate(h.dtype()), cache.capacity(), cache.length);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    h = blocks_[i]->step(ctx, rows, h, positions, {cache.segment, cache.memory_segment},
                         cache.blocks[i], saved.blocks[i]);
  }
  cache.length += rows.length;
  return final_norm_.forward(ctx, h, saved.final_norm);
}

std::vector<MoeLayer*> Stack::moe_layers() const {
  std::vector<MoeLayer*> layers;
  for (MoeLayer* layer : moe_layers_) {
    if (layer) layers.push_back(layer);
  }
  return layers;
}

void Stack::observe(LayerContext& ctx, const TokenRows& rows, const Saved& saved) const {
  for (size_t i = 0; i < saved.blocks.size(); ++i) {
    if (moe_layers_[i]) moe_layers_[i]->observe(ctx, rows, *saved.blocks[i].feed_forward);
  }
}

std::vector<MoeDecisions*> Stack::decisions(Saved& saved) {
  std::vector<MoeDecisions*> all;
  for (Block::Saved& block : saved.blocks) {
    if (auto* mixture = dynamic_cast<MoeLayer::Saved*>(block.feed_forward.get())) {
      all.push_back(mixture);
    }
  }
  return all;
}

std::vector<const MoeLayer::Saved*> Stack::mixtures(const Saved& saved) {
  std::vector<const MoeLayer::Saved*> all;
  for (const Block::Saved& block : saved.blocks) {
    all.push_back(dynamic_cast<const MoeLayer::Saved*>(block.feed_forward.get()));
  }
  return all;
}

void Stack::collect_weights(std::vector<Weight*>& weights) {
  if (position_bias_) position_bias_->collect_weights(weights);
  for (const auto& block : blocks_) block->collect_weights(weights);
  final_norm_.collect_weights(weights);
}

}  // namespace switchyard
