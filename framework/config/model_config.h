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
  enum class Activation {
    kRelu,
    kGelu,
    kGeluTanh,
    kSilu,
    kRelu2,
    kReglu,
    kGeglu,
    kGegluTanh,
    kSwiglu
  };

  enum class QkNorm { kNone, kPerHead, kWhole };

  std::string type = "switch_t5";
  std::optional<int64_t> vocabulary;  // empty: as the dataset's tokenizer
  int64_t d_model = 256;
  std::optional<int64_t> d_kv;  // empty: see resolve_d_kv in config/resolve.h
  int64_t d_ff = 1024;
  int64_t heads = 4;
  std::optional<int64_t> kv_heads;  // empty: as many as heads
  int64_t encoder_layers = 4;
  int64_t decoder_layers = 4;
  int64_t layers = 4;  // where there is no encoder
  Activation activation = Activation::kRelu;
  double dropout = 0.1;
  RelativeAttentionConfig relative_attention;
  double rope_theta = 10'000.0;
  std::optional<int64_t> sliding_window;  // empty: all tokens before
  QkNorm qk_norm = QkNorm::kNone;
  double norm_epsilon = 1e-6;
  bool tie_embeddings = true;
  double init_scale = 0.1;
  double init_deviation = 0.02;

  // Whether it has no encoder.
  bool is_decoder_only() const { return type == "decoder_lm"; }

  void describe(Fields& f);
};

}  // namespace switchyard
