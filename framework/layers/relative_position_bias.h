// T5's relative position bias: a learned value per (bucket of the distance, head), added to
// attention scores and shared by every block of a stack. Buckets as parity with Mesh-TensorFlow and
// Hugging Face demands: exact for short distances, logarithmic beyond.
#pragma once

#include "layers/layer_context.h"
#include "layers/module.h"

namespace switchyard {

// The bucket of `distance` = key position - query position, by float32 logarithms as in Hugging
// Face.
int32_t relative_position_bucket(int64_t distance, bool bidirectional, int64_t buckets,
                                 int64_t max_distance);

class RelativePositionBias : public Module {
 public:
  struct Options {
    int64_t buckets = 32, max_distance = 128, heads = 1;
    bool bidirectional = true;
  };

  // Weight `name` [buckets, H], uniform as Glorot's: limit sqrt(6 / (H + buckets)).
  RelativePositionBias(const std::string& name, const Options& options, DType dtype, Memory& memory,
                       uint64_t seed);

  // Bias by distance [H, Sq + Sk - 1] in ctx.saved, see AttentionInput::distance_bias.
  //   query_start  position of the first query; that of the first key is 0
  TensorView forward(LayerContext& ctx, int64_t queries, int64_t keys, int64_t query_start = 0);
  //   dbias  [leaves, H, Sq + Sk - 1]; may be called once per block
  void backward(LayerContext& ctx, TensorView dbias, int64_t queries, int64_t keys);
  void collect_weights(std::vector<Weight*>& weights) override;
  Weight& table() { return table_; }

 private:
  // int32 [Sq + Sk - 1] in ctx.scratch, for the caller's scope to take back.
  TensorView buckets_for(LayerContext& ctx, int64_t queries, int64_t keys,
                         int64_t query_start) const;

  Options options_;
  Weight table_;
};

}  // namespace switchyard
