// What the trainer knows of a model: losses forward, gradients backward, its weights and mixtures.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"
#include "models/stack.h"

namespace switchyard {

// This rank's part of a micro-batch. Decoder-only models leave `encoder` empty.
struct ModelBatch {
  TokenRows encoder;
  // What the decoder reads: targets shifted right, or without an encoder the text itself.
  TokenRows decoder;
  TensorView targets;  // int32 [Td]: kIgnoredTarget where there is no loss
};

class Model : public Module {
 public:
  // Cross-entropy of every target, float64 [Td] in ctx.saved. In training keeps what backward needs
  // for the gradient of gradient_scale * the sum of what is trained on: cross-entropies, smoothed
  // if the model was made so, and z-losses; the head's own gradient is added to its weight at once.
  // Every rank calls it, with an empty batch too.
  virtual TensorView forward(LayerContext& ctx, const ModelBatch& batch, double gradient_scale) = 0;
  // Of the last forward in training: z-loss of every target, float64 [Td], which the
  // cross-entropies don't contain; absent where the model has none.
  virtual TensorView output_z() const = 0;
  // Adds to the weights' gradients, auxiliary losses' included. After forward in training.
  virtual void backward(LayerContext& ctx, const ModelBatch& batch) = 0;
  // The forward pass as far as the mixtures, for their decisions and observations alone.
  virtual void route(LayerContext& ctx, const ModelBatch& batch) = 0;
  // [Td, V] in ctx.saved, without losses.
  virtual TensorView logits(LayerContext& ctx, const ModelBatch& batch) = 0;

  // All mixture layers, encoder first.
  virtual std::vector<MoeLayer*> moe_layers() = 0;
  // Adds what the last forward did to the mixtures' observations.
  virtual void observe(LayerContext& ctx, const ModelBatch& batch) = 0;
  // What the last forward decided, as moe_layers(): read to keep it aside, written to have it
  // replayed by a forward with ctx.replay.
  virtual std::vector<MoeDecisions*> decisions() = 0;

  // Generation, in evaluation only. An empty cache for `capacity` positions of each of `sequences`
  // sequences. Every rank calls it.
  //   encoder  what the encoder reads, one row per sequence; ignored in decoder-only models
  virtual Stack::Cache start(LayerContext& ctx, const TokenRows& encoder, int64_t sequences,
                             int64_t capacity) = 0;
  // Logits [T, V] in ctx.saved of tokens behind those of the cache, which takes them in; see
  // Stack::step. The caller releases ctx.saved. Every rank calls it as often as all others.
  virtual TensorView step(LayerContext& ctx, const TokenRows& tokens, Stack::Cache& cache) = 0;
};

}  // namespace switchyard
