#include "models/block.h"

namespace switchyard {

const char* name_of(StackKind stack) {
  return stack == StackKind::kEncoder ? "encoder" : "decoder";
}

std::string block_name(StackKind stack, int64_t number) {
  return std::string(name_of(stack)) + ".block." + std::to_string(number);
}

static AttentionLayer::Options self_attention_options(const Block::Options& options) {
  return {.d_model = options.d_model,
          .d_kv = options.d_kv,
          .heads = options.heads,
          .kv_heads = options.kv_heads,
          .scale = options.attention_scale,
          .causal = options.stack == StackKind::kDecoder,
          .window = options.window,
          .qk_norm = options.qk_norm,
          .norm_epsilon = options.norm_epsilon,
          .norm_rounding = options.norm_rounding,
          .dropout = options.dropout,
          .dropout_purpose = Purpose::kAttentionDropout,
          .layer = layer_id(options.stack, options.number),
          .init = options.init};
}

static AttentionLayer::Options cross_attention_options(const Block::Options& options) {
  return {.d_model = options.d_model,
          .d_kv = options.d_kv,
          .heads = options.heads,
          .dropout = options.dropout,
          .dropout_purpose = Purpose::kCrossAttentionDropout,
          .layer = layer_id(options.stack, options.number),
          .init = options.init};
}

Block::Block(const Options& options, std::unique_ptr<FeedForward> feed_forward, DType dtype,
             switchyard::Memory& memory, uint64_t seed)
    : options_(options),
      self_norm_(block_name(options.stack, options.number) + ".self_attention_norm",
                 options.d_model, options.norm_epsilon, dtype, memory, options.norm_rounding),
      ffn_norm_(block_name(options.stack, options.number) + ".ffn_norm", options.d_model,
                options.norm_epsilon, dtype, memory, options.norm_rounding),
      self_attention_(block_name(options.stack, options.number) + ".self_attention",
                      self_attention_options(options), dtype, memory, seed),
      feed_forward_(std::move(feed_forward)) {
  if (options.stack == StackKind::kEncoder || options.decoder_only) return;
  const std::string name = block_name(options.stack, options.number) + ".cross_attention";
  cross_norm_.emplace(name + "_norm", options.d_model, options.norm_epsilon, dtype, memory,
                      options.norm_rounding);
  cross_attention_.emplace(name, cross_attention_options(options), dtype, memory, seed);
}

Block::Saved Block::make_saved() const {
  Saved saved;
  saved.feed_forward = feed_forward_->make_saved();
  return saved;
}

TensorView Block::add_residual(LayerContext& ctx, const TokenRows& rows, TensorView h, TensorView y,
                               Purpose purpose) const {
  if (ctx.training && options_.dropout > 0) {
    const uint16_t layer = layer_id(options_.stack, options_.number);
    dropout(ctx, y, options_.dropout, ctx.random(rows, layer, purpose), y);
  }
  const TensorView sum = ctx.saved.allocate(h.dtype(), h.shape());
  add(ctx, h, y, sum);
  return sum;
}

TensorView Block::sublayer_gradient(LayerContext& ctx, const TokenRows& rows, TensorView dh,
                                    Purpose purpose) const {
  if (!ctx.training || options_.dropout == 0) return dh;
  const TensorView dy = ctx.scratch.allocate(dh.dtype(), dh.shape());
  const uint16_t layer = layer_id(options_.stack, options_.number);
  dropout(ctx, dh, options_.dropout, ctx.random(rows, layer, purpose), dy);
  return dy;
}

TensorView Block::forward(LayerContext& ctx, const TokenRows& rows, TensorView h,
                          const PositionEncoding& positions, const Memory* memory, Saved& saved) {
  const Span block(ctx.tracer, "block", options_.number);
  Span part(ctx.tracer, "self-attention");
  saved.self.normed = self_norm_.forward(ctx, h, saved.self.norm);
  const AttentionLayer::Source self{rows, saved.self.normed};
  const TensorView attended =
      self_attention_.forward(ctx, self, self, positions, saved.self.attention);
  h = add_residual(ctx, rows, h, attended, Purpose::kAttentionOutputDropout);

  if (cross_attention_) {
    part.then("cross-attention");
    saved.cross.normed = cross_norm_->forward(ctx, h, saved.cross.norm);
    const TensorView crossed = cross_attention_->forward(
        ctx, {rows, saved.cross.normed}, {*memory->rows, memory->x}, {}, saved.cross.attention);
    h = add_residual(ctx, rows, h, crossed, Purpose::kCrossAttentionOutputDropout);
  }
  part.then("feed-forward");
  return feed(ctx, rows, h, saved);
}

TensorView Block::feed(LayerContext& ctx, const TokenRows& rows, TensorView h, Saved& saved) {
  saved.ffn.normed = ffn_norm_.forward(ctx, h, saved.ffn.norm);
  const TensorView fed = feed_forward_->forward(ctx, rows, saved.ffn.normed, *saved.feed_forward);
  return add_residual(ctx, rows, h, fed, Purpose::kFfnOutputDropout);
}

Block::Cache Block::make_cache(LayerContext& ctx, int64_t sequences, int64_t capacity,
                               DType activations, const Memory* memory) {
  Cache cache;
  cache.self = self_attention_.make_cache(ctx, sequences, capacity, activations);
  if (cross_attention_) {
    cache.cross = cross_attention_->make_cache(ctx, sequences, memory->rows->length, activations);
    cross_attention_->extend(ctx, {*memory->rows, memory->x}, {}, cache.cross);
  }
  return cache;
}

TensorView Block::step(LayerContext& ctx, const TokenRows& rows, TensorView h,
                       const PositionEncoding& positions, const CachedSegments& segments,
                       Cache& cache, Saved& saved) {
  SWITCHYARD_CHECK(!ctx.training, "generation in training");
  const AttentionLayer::Source self{rows, self_norm_.forward(ctx, h, saved.self.norm)};
  self_attention_.extend(ctx, self, positions, cache.self);
  const TensorView attended =
      self_attention_.attend(ctx, self, cache.self, segments.self, positions);
  h = add_residual(ctx, rows, h, attended, Purpose::kAttentionOutputDropout);
  if (cross_attention_) {
    const TensorView normed = cross_norm_->forward(ctx, h, saved.cross.norm);
    const TensorView crossed =
        cross_attention_->attend(ctx, {rows, normed}, cache.cross, segments.cross, {});
    h = add_residual(ctx, rows, h, crossed, Purpose::kCrossAttentionOutputDropout);
  }
  return feed(ctx, rows, h, saved);
}

void Block::backward(LayerContext& ctx, const TokenRows& rows, const PositionEncoding& positions,
                     const Memory* memory, const Saved& saved, TensorView dh,
                     TensorView ddistance_bias) {
  const Span block(ctx.tracer, "block", options_.number);
  Span part(ctx.tracer, "feed-forward");
  const ScratchScope scope(ctx.scratch);
  const TensorView dnormed = ctx.scratch.allocate(dh.dtype(), dh.shape());
  const LeafOffsets leaves = rows.group_offsets;
  {
    const ScratchScope sublayer(ctx.scratch);
    const TensorView dy = sublayer_gradient(ctx, rows, dh, Purpose::kFfnOutputDropout);
    feed_forward_->backward(ctx, rows, saved.ffn.normed, *saved.feed_forward, dy, dnormed);
  }
  ffn_norm_.backward(ctx, leaves, saved.ffn.norm, dnormed, dh, Write::kAccumulate);

  if (cross_attention_) {
    part.then("cross-attention");
    {
      const ScratchScope sublayer(ctx.scratch);
      const TensorView dy = sublayer_gradient(ctx, rows, dh, Purpose::kCrossAttentionOutputDropout);
      cross_attention_->backward(ctx, {rows, saved.cross.normed}, {*memory->rows, memory->x}, {},
                                 saved.cross.attention, dy, dnormed, memory->dx, Write::kAccumulate,
                                 TensorView());
    }
    cross_norm_->backward(ctx, leaves, saved.cross.norm, dnormed, dh, Write::kAccumulate);
  }
  part.then("self-attention");
  {
    const ScratchScope sublayer(ctx.scratch);
    const TensorView dy = sublayer_gradient(ctx, rows, dh, Purpose::kAttentionOutputDropout);
    const AttentionLayer::Source self{rows, saved.self.normed};
    self_attention_.backward(ctx, self, self, positions, saved.self.attention, dy, dnormed, dnormed,
                             Write::kAccumulate, ddistance_bias);
  }
  self_norm_.backward(ctx, leaves, saved.self.norm, dnormed, dh, Write::kAccumulate);
}

void Block::collect_weights(std::vector<Weight*>& weights) {
  self_norm_.collect_weights(weights);
  self_attention_.collect_weights(weights);
  if (cross_attention_) {
    cross_norm_->collect_weights(weights);
    cross_attention_->collect_weights(weights);
  }
  ffn_norm_.collect_weights(weights);
  feed_forward_->collect_weights(weights);
}

}  // namespace switchyard
