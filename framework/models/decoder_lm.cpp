#include "models/decoder_lm.h"

namespace switchyard {

DecoderLm::DecoderLm(const Options& options, std::vector<std::unique_ptr<FeedForward>> ffns,
                     DType activations, Memory& memory, uint64_t seed)
    : activations_(activations),
      embedding_("embedding", options.vocabulary, options.stack.block.d_model,
                 options.stack.block.init, accurate(activations), memory, seed),
      stack_(options.stack, std::move(ffns), accurate(activations), memory, seed),
      saved_(stack_.make_saved()) {
  embedding_.table().set_writes_per_leaf(options.tie_embeddings ? 2 : 1);  // inputs, head
  if (options.tie_embeddings) {
    head_ = std::make_unique<LmHead>(embedding_.table(), /*scale=*/1.0, options.loss);
  } else {
    head_ = std::make_unique<LmHead>("lm_head", options.vocabulary, options.stack.block.d_model,
                                     options.stack.block.init, accurate(activations), memory, seed,
                                     options.loss);
  }
}

TensorView DecoderLm::run_stack(LayerContext& ctx, const ModelBatch& batch,
                                std::vector<TensorView>* hidden) {
  const TensorView h = embedding_.forward(ctx, batch.decoder, activations_);
  return stack_.forward(ctx, batch.decoder, h, nullptr, saved_, hidden);
}

TensorView DecoderLm::forward(LayerContext& ctx, const ModelBatch& batch, double gradient_scale) {
  return head_->loss(ctx, run_stack(ctx, batch, nullptr), batch.targets,
                     batch.decoder.group_offsets, gradient_scale, head_saved_);
}

void DecoderLm::route(LayerContext& ctx, const ModelBatch& batch) {
  run_stack(ctx, batch, nullptr);
}

TensorView DecoderLm::logits(LayerContext& ctx, const ModelBatch& batch) {
  return head_->logits(ctx, run_stack(ctx, batch, nullptr));
}

std::vector<TensorView> DecoderLm::hidden_states(LayerContext& ctx, const ModelBatch& batch) {
  std::vector<TensorView> hidden;
  hidden.push_back(run_stack(ctx, batch, &hidden));
  return hidden;
}

void DecoderLm::backward(LayerContext& ctx, const ModelBatch& batch) {
  const TensorView dh = head_saved_.dh;
  stack_.backward(ctx, batch.decoder, nullptr, saved_, dh);
  embedding_.backward(ctx, batch.decoder, dh);
}

std::vector<MoeLayer*> DecoderLm::moe_layers() { return stack_.moe_layers(); }

void DecoderLm::observe(LayerContext& ctx, const ModelBatch& batch) {
  stack_.observe(ctx, batch.decoder, saved_);
}

std::vector<MoeDecisions*> DecoderLm::decisions() { return Stack::decisions(saved_); }

Stack::Cache DecoderLm::start(LayerContext& ctx, const TokenRows&, int64_t sequences,
                              int64_t capacity) {
  return stack_.make_cache(ctx, sequences, capacity, activations_, nullptr);
}

TensorView DecoderLm::step(LayerContext& ctx, const TokenRows& tokens, Stack::Cache& cache) {
  const TensorView h = embedding_.forward(ctx, tokens, activations_);
  return head_->logits(ctx, stack_.step(ctx, tokens, h, cache, saved_));
}

void DecoderLm::collect_weights(std::vector<Weight*>& weights) {
  embedding_.collect_weights(weights);
  stack_.collect_weights(weights);
  head_->collect_weights(weights);
}

}  // namespace switchyard
