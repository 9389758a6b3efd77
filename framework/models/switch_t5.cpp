#include "models/switch_t5.h"

namespace switchyard {

SwitchT5::SwitchT5(const Options& options, std::vector<std::unique_ptr<FeedForward>> encoder_ffns,
                   std::vector<std::unique_ptr<FeedForward>> decoder_ffns, DType activations,
                   Memory& memory, uint64_t seed)
    : activations_(activations),
      embedding_("shared_embedding", options.vocabulary, options.encoder.block.d_model,
                 options.init, accurate(activations), memory, seed),
      encoder_(options.encoder, std::move(encoder_ffns), accurate(activations), memory, seed),
      decoder_(options.decoder, std::move(decoder_ffns), accurate(activations), memory, seed),
      encoder_saved_(encoder_.make_saved()),
      decoder_saved_(decoder_.make_saved()) {
  embedding_.table().set_writes_per_leaf(options.tie_embeddings ? 3 : 2);  // inputs, targets, head
  if (options.tie_embeddings) {
    head_ = std::make_unique<LmHead>(embedding_.table(), LmHead::t5_scale(embedding_.table()),
                                     options.loss);
  } else {
    head_ =
        std::make_unique<LmHead>("lm_head", options.vocabulary, options.encoder.block.d_model,
                                 options.init, accurate(activations), memory, seed, options.loss);
  }
}

TensorView SwitchT5::run_stacks(LayerContext& ctx, const ModelBatch& batch, Hidden* hidden) {
  TensorView h = embedding_.forward(ctx, batch.encoder, activations_);
  encoded_ = encoder_.forward(ctx, batch.encoder, h, nullptr, encoder_saved_,
                              hidden ? &hidden->encoder : nullptr);
  h = embedding_.forward(ctx, batch.decoder, activations_);
  const Block::Memory memory{&batch.encoder, encoded_, TensorView()};
  return decoder_.forward(ctx, batch.decoder, h, &memory, decoder_saved_,
                          hidden ? &hidden->decoder : nullptr);
}

TensorView SwitchT5::forward(LayerContext& ctx, const ModelBatch& batch, double gradient_scale) {
  const TensorView decoded = run_stacks(ctx, batch, nullptr);
  return head_->loss(ctx, decoded, batch.targets, batch.decoder.group_offsets, gradient_scale,
                     head_saved_);
}

void SwitchT5::route(LayerContext& ctx, const ModelBatch& batch) {
  run_stacks(ctx, batch, nullptr);
}

TensorView SwitchT5::logits(LayerContext& ctx, const ModelBatch& batch) {
  return head_->logits(ctx, run_stacks(ctx, batch, nullptr));
}

SwitchT5::Hidden SwitchT5::hidden_states(LayerContext& ctx, const ModelBatch& batch) {
  Hidden hidden;
  hidden.decoder.push_back(run_stacks(ctx, batch, &hidden));
  hidden.encoder.push_back(encoded_);
  return hidden;
}

void SwitchT5::backward(LayerContext& ctx, const ModelBatch& batch) {
  const ScratchScope scope(ctx.scratch);
  const TensorView ddecoded = head_saved_.dh;
  const TensorView dencoded = ctx.scratch.allocate(activations_, encoded_.shape());
  fill_zero(ctx, dencoded);  // every decoder block adds to it
  const Block::Memory memory{&batch.encoder, encoded_, dencoded};
  decoder_.backward(ctx, batch.decoder, &memory, decoder_saved_, ddecoded);
  embedding_.backward(ctx, batch.decoder, ddecoded);
  encoder_.backward(ctx, batch.encoder, nullptr, encoder_saved_, dencoded);
  embedding_.backward(ctx, batch.encoder, dencoded);
}

std::vector<MoeLayer*> SwitchT5::moe_layers() {
  std::vector<MoeLayer*> layers = encoder_.moe_layers();
  for (MoeLayer* layer : decoder_.moe_layers()) layers.push_back(layer);
  return layers;
}

void SwitchT5::observe(LayerContext& ctx, const ModelBatch& batch) {
  encoder_.observe(ctx, batch.encoder, encoder_saved_);
  decoder_.observe(ctx, batch.decoder, decoder_saved_);
}

std::vector<MoeDecisions*> SwitchT5::decisions() {
  std::vector<MoeDecisions*> all = Stack::decisions(encoder_saved_);
  for (MoeDecisions* decisions : Stack::decisions(decoder_saved_)) all.push_back(decisions);
  return all;
}

Stack::Cache SwitchT5::start(LayerContext& ctx, const TokenRows& encoder, int64_t sequences,
                             int64_t capacity) {
  SWITCHYARD_CHECK(encoder.sequences == sequences, encoder.sequences, " inputs of ", sequences,
                   " sequences");
  const TensorView h = embedding_.forward(ctx, encoder, activations_);
  const TensorView encoded = encoder_.forward(ctx, encoder, h, nullptr, encoder_saved_);
  const Block::Memory memory{&encoder, encoded, TensorView()};
  return decoder_.make_cache(ctx, sequences, capacity, activations_, &memory);
}

TensorView SwitchT5::step(LayerContext& ctx, const TokenRows& tokens, Stack::Cache& cache) {
  const TensorView h = embedding_.forward(ctx, tokens, activations_);
  return head_->logits(ctx, decoder_.step(ctx, tokens, h, cache, decoder_saved_));
}

std::vector<const MoeLayer::Saved*> SwitchT5::encoder_mixtures() const {
  return Stack::mixtures(encoder_saved_);
}

std::vector<const MoeLayer::Saved*> SwitchT5::decoder_mixtures() const {
  return Stack::mixtures(decoder_saved_);
}

void SwitchT5::collect_weights(std::vector<Weight*>& weights) {
  embedding_.collect_weights(weights);
  encoder_.collect_weights(weights);
  decoder_.collect_weights(weights);
  head_->collect_weights(weights);
}

}  // namespace switchyard
