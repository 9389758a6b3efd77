// The Switch Transformer (Fedus 2021): T5's encoder-decoder whose feed-forward layers are, in the
// chosen blocks, mixtures of experts. Exactly the forward pass of Mesh-TensorFlow and Hugging Face
// transformers 4.52-4.57.
#pragma once

#include "layers/embedding_layer.h"
#include "layers/lm_head.h"
#include "models/model.h"

namespace switchyard {

class SwitchT5 : public Model {
 public:
  struct Options {
    int64_t vocabulary = 0;
    bool tie_embeddings = true;
    Initialisation init;
    LossOptions loss;
    Stack::Options encoder, decoder;
  };

  //   encoder_ffns, decoder_ffns  one feed-forward layer per block
  //   activations                 dtype of all activations; weights are accurate(activations)
  SwitchT5(const Options& options, std::vector<std::unique_ptr<FeedForward>> encoder_ffns,
           std::vector<std::unique_ptr<FeedForward>> decoder_ffns, DType activations,
           Memory& memory, uint64_t seed);

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

  // Hidden states for comparison with other systems: the input of each block, then the stack's
  // output.
  struct Hidden {
    std::vector<TensorView> encoder, decoder;
  };
  Hidden hidden_states(LayerContext& ctx, const ModelBatch& batch);
  // What the last forward's mixtures decided, one entry per block, null where the block is dense.
  std::vector<const MoeLayer::Saved*> encoder_mixtures() const;
  std::vector<const MoeLayer::Saved*> decoder_mixtures() const;

 private:
  // The decoder's output [Td, D].
  TensorView run_stacks(LayerContext& ctx, const ModelBatch& batch, Hidden* hidden);

  DType activations_;
  EmbeddingLayer embedding_;
  Stack encoder_, decoder_;
  std::unique_ptr<LmHead> head_;
  Stack::Saved encoder_saved_, decoder_saved_;
  LmHead::Saved head_saved_;
  TensorView encoded_;  // [Te, D] of the last forward
};

}  // namespace switchyard
