// A decoder-only language model (Mixtral, OLMoE, Qwen3-MoE; dense: Mistral, Llama): causal blocks
// with rotary positions, each token predicted from those before it. Exactly the forward pass of
// Hugging Face transformers' classes of these names.
#pragma once

#include "layers/embedding_layer.h"
#include "layers/lm_head.h"
#include "models/model.h"

namespace switchyard {

class DecoderLm : public Model {
 public:
  struct Options {
    int64_t vocabulary = 0;
    bool tie_embeddings = true;
    LossOptions loss;
    Stack::Options stack;  // of a decoder without encoder
  };

  // Weights "embedding", "lm_head" where untied, and those of the stack ("decoder.block.3...").
  //   ffns         one feed-forward layer per block
  //   activations  dtype of all activations; weights are accurate(activations)
  DecoderLm(const Options& options, std::vector<std::unique_ptr<FeedForward>> ffns,
            DType activations, Memory& memory, uint64_t seed);

  TensorView forward(LayerContext& ctx, const ModelBatch& batch, double gradient_scale) override;
  TensorView output_z() const override { return head_saved_.output_z; }
  void backward(LayerContext& ctx, const ModelBatch& batch) override;
  void route(LayerContext& ctx, const ModelBatch& batch) override;
  TensorView logits(LayerContext& ctx, const ModelBatch& batch) override;
  std::vector<MoeLayer*> moe_layers() override;
  void observe(LayerContext& ctx, const ModelBatch& batch) override;
  std::vector<MoeDecisions*> decisions() override;
  Stack::Cache start(LayerContext& ctx, const TokenRows& encoder, int64_t sequences,
                     int64_t capacity) override;
  TensorView step(LayerContext& ctx, const TokenRows& tokens, Stack::Cache& cache) override;
  void collect_weights(std::vector<Weight*>& weights) override;

  // The input of each block, then the stack's output, for comparison with other systems.
  std::vector<TensorView> hidden_states(LayerContext& ctx, const ModelBatch& batch);
  // What the last forward's mixtures decided, one entry per block, null where the block is dense.
  std::vector<const MoeLayer::Saved*> mixtures() const { return Stack::mixtures(saved_); }

 private:
  // The stack's output [T, D].
  TensorView run_stack(LayerContext& ctx, const ModelBatch& batch, std::vector<TensorView>* hidden);

  DType activations_;
  EmbeddingLayer embedding_;
  Stack stack_;
  std::unique_ptr<LmHead> head_;
  Stack::Saved saved_;
  LmHead::Saved head_saved_;
};

}  // namespace switchyard
