#include "layers/embedding_layer.h"

namespace switchyard {

EmbeddingLayer::EmbeddingLayer(const std::string& name, int64_t vocabulary, int64_t d_model,
                               const Initialisation& init, DType dtype, Memory& memory,
                               uint64_t seed)
    : table_(name, WeightRole::kEmbedding, dtype, {vocabulary, d_model}, memory) {
  initialise(table_, init.matrix_or(Initial::normal(1.0)), seed);
}

TensorView EmbeddingLayer::forward(LayerContext& ctx, const TokenRows& rows, DType dtype) {
  const TensorView y = ctx.saved.allocate(dtype, {rows.tokens(), table_.shape()[1]});
  embedding(ctx, table_, rows.ids, y);
  return y;
}

void EmbeddingLayer::backward(LayerContext& ctx, const TokenRows& rows, TensorView dy) {
  embedding_gradient(ctx, rows.ids, dy, rows.group_offsets, table_);
}

void EmbeddingLayer::collect_weights(std::vector<Weight*>& weights) { weights.push_back(&table_); }

}  // namespace switchyard
