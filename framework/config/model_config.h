// `model:` the shape of the transformer. What it computes stands in models/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace switchyard {

class Fields;

struct RelativeAttentionConfig {
  int64_t buckets = 32;
  int64_t max_distance = 128;

  void describe(Fields& f);
};

struct ModelConfig {
  enum class Activation { kRelu, kGelu, kSilu, kRelu2, kReglu, kGeglu, kSwiglu };

  std::string type = "switch_t5";
  std::optional<int64_t> vocabulary;  // empty: as the dataset's tokenizer
  int64_t d_model = 256;
  int64_t d_kv = 64;
  int64_t d_ff = 1024;
  int64_t heads = 4;
  int64_t encoder_layers = 4;
  int64_t decoder_layers = 4;
  Activation activation = Activation::kRelu;
  double dropout = 0.1;
  RelativeAttentionConfig relative_attention;
  double norm_epsilon = 1e-6;
  bool tie_embeddings = true;
  double init_scale = 0.1;

  void describe(Fields& f);
};

}  // namespace switchyard
