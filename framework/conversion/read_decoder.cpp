// Mixtral, OLMoE and Qwen3-MoE: configuration_mixtral.py, configuration_olmoe.py and
// configuration_qwen3_moe.py of transformers 4.57.6, whose defaults hold for keys that are absent.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "conversion/activations.h"
#include "conversion/read_config.h"

namespace switchyard {

namespace {

struct Defaults {
  int64_t hidden, width, layers, heads;
  std::optional<int64_t> kv_heads;  // empty: as heads
  int64_t experts, top_k;
  double epsilon, theta, loss;
  const char* qk_norm;
};

Defaults defaults_of(Family family) {
  if (family == Family::kMixtral) {
    return {4096, 14336, 32, 32, 8, 8, 2, 1e-5, 1e6, 0.001, "none"};
  }
  if (family == Family::kOlmoe) return {2048, 2048, 16, 16, {}, 64, 8, 1e-5, 1e4, 0.01, "whole"};
  return {2048, 768, 24, 32, 4, 128, 8, 1e-6, 1e4, 0.001, "per_head"};
}

class DecoderReader {
 public:
  DecoderReader(Family family, ForeignConfig& given)
      : family_(family), given_(given), defaults_(defaults_of(family)) {}

  ReadConfig read() {
    read_.dialect = {.family = family_, .gated = true};
    read_.dialect.tied = given_.boolean("tie_word_embeddings", false);
    given_.only("is_encoder_decoder", false, "the model has no encoder");
    given_.ignore({"decoder_start_token_id"});
    layers_ = given_.integer("num_hidden_layers", {1, 1024}, defaults_.layers);
    refuse_what_is_missing();
    const std::string model = model_section();
    read_.yaml = model + moe_section();
    return std::move(read_);
  }

 private:
  void refuse_what_is_missing() {
    given_.only("attention_bias", false, "projections have no bias here");
    given_.only("clip_qkv", nullptr, "queries, keys and values aren't clipped here");
    if (const double share = given_.real("attention_dropout", {0.0, 1.0}, 0.0); share > 0) {
      read_.notes.push_back(fmt::format(
          "attention_dropout {}: model.dropout is 0, since it would drop in more places", share));
    }
    check_rope_scaling();
  }

  // Plain rotation, or nothing said.
  void check_rope_scaling() {
    const nlohmann::json scaling = given_.object("rope_scaling");
    for (const auto& [key, value] : scaling.items()) {
      if ((key == "rope_type" || key == "type") && value == "default") continue;
      given_.refuse("rope_scaling", "positions are rotated unscaled here");
    }
  }

  // transformers 5 keeps it in rope_parameters.
  double rope_theta() {
    const Range<double> range{1.0, 1e9};
    const double theta = given_.real("rope_theta", range, defaults_.theta);
    const nlohmann::json later = given_.object("rope_parameters");
    double of_later = theta;
    for (const auto& [key, value] : later.items()) {
      const bool plain = key == "rope_type" && value == "default";
      const bool base = key == "rope_theta" && value.is_number();
      if (!plain && !base) given_.refuse("rope_parameters", "positions are rotated unscaled here");
      if (base) of_later = value.get<double>();
    }
    if (given_.has("rope_theta") && of_later != theta) {
      given_.refuse("rope_parameters", "\"rope_theta\" says something else");
    }
    if (!(of_later >= range.min && of_later <= range.max)) {
      given_.refuse("rope_parameters", "only 1 to 1e9 can be expressed");
    }
    return of_later;
  }

  std::optional<int64_t> window() {
    const Range<int64_t> range{1, 1 << 24};
    given_.ignore({"max_window_layers"});
    if (family_ == Family::kQwen3Moe && !given_.boolean("use_sliding_window", false)) {
      given_.ignore({"sliding_window"});
      return {};
    }
    if (family_ == Family::kOlmoe) {
      given_.only("sliding_window", nullptr, "transformers' class has none");
      return {};
    }
    if (given_.has("sliding_window")) return given_.integer("sliding_window", range);
    if (family_ == Family::kQwen3Moe) {
      given_.refuse("use_sliding_window", "\"sliding_window\" doesn't say how wide it is");
    }
    given_.ignore({"sliding_window"});
    return {};
  }

  // Of the experts and of dense layers, one number here.
  int64_t inner_width() {
    if (family_ != Family::kQwen3Moe) {
      return given_.integer("intermediate_size", {1, 1 << 20}, defaults_.width);
    }
    const int64_t experts = given_.integer("moe_intermediate_size", {1, 1 << 20}, defaults_.width);
    const int64_t dense = given_.integer("intermediate_size", {1, 1 << 20}, 6144);
    if (std::ssize(mixtures_) == layers_ || dense == experts) return experts;
    if (mixtures_.empty()) return dense;
    given_.refuse("intermediate_size",
                  fmt::format("its dense layers are as wide as the experts here, {}", experts));
  }

  void find_mixtures() {
    int64_t step = 1;
    std::vector<int64_t> dense;
    if (family_ == Family::kQwen3Moe) {
      step = given_.integer("decoder_sparse_step", {1, 1024}, 1);
      dense = given_.integers("mlp_only_layers");
    }
    for (int64_t i = 0; i < layers_; ++i) {
      const bool is_dense = std::ranges::find(dense, i) != dense.end();
      if (!is_dense && (i + 1) % step == 0) mixtures_.push_back(i);
    }
  }

  std::string model_section() {
    find_mixtures();
    std::string yaml = "model:\n  type: decoder_lm\n";
    const auto add = [&](const char* key, const std::string& value) {
      yaml += fmt::format("  {}: {}\n", key, value);
    };
    const int64_t hidden = given_.integer("hidden_size", {1, 1 << 16}, defaults_.hidden);
    const int64_t heads = given_.integer("num_attention_heads", {1, 1 << 10}, defaults_.heads);
    add("vocabulary", std::to_string(given_.integer("vocab_size", {1, 1 << 24})));
    add("d_model", std::to_string(hidden));
    // OLMoE's class doesn't look at head_dim.
    if (family_ == Family::kOlmoe)
      given_.only("head_dim", hidden / heads, "its heads share d_model");
    if (!given_.has("head_dim") && hidden % heads != 0) {
      given_.refuse("num_attention_heads", "they don't divide hidden_size");
    }
    add("d_kv", std::to_string(given_.integer("head_dim", {1, 1 << 12}, hidden / heads)));
    add("d_ff", std::to_string(inner_width()));
    add("heads", std::to_string(heads));
    add("kv_heads", std::to_string(given_.integer("num_key_value_heads", {1, 1 << 10},
                                                  defaults_.kv_heads.value_or(heads))));
    add("layers", std::to_string(layers_));
    const std::string function = given_.text("hidden_act", "silu");
    const auto activation = activation_named(function, true);
    if (!activation) given_.refuse("hidden_act", "there is no such activation function here");
    add("activation", config_name(*activation));
    add("dropout", "0");
    add("rope_theta", yaml_number(rope_theta()));
    if (const auto tokens = window()) add("sliding_window", std::to_string(*tokens));
    add("qk_norm", defaults_.qk_norm);
    add("norm_epsilon", yaml_number(given_.real("rms_norm_eps", {1e-12, 1e-1}, defaults_.epsilon)));
    add("tie_embeddings", read_.dialect.tied ? "true" : "false");
    add("init_deviation", yaml_number(given_.real("initializer_range", {1e-6, 100.0}, 0.02)));
    return yaml;
  }

  std::string moe_section() {
    const bool mixtral = family_ == Family::kMixtral;
    const int64_t experts = given_.integer(mixtral ? "num_local_experts" : "num_experts",
                                           {1, 65'536}, defaults_.experts);
    const int64_t top_k = given_.integer("num_experts_per_tok", {1, 256}, defaults_.top_k);
    const bool normalize = mixtral || given_.boolean("norm_topk_prob", false);
    const double jitter = mixtral ? given_.real("router_jitter_noise", {0.0, 0.5}, 0.0) : 0.0;
    double loss = given_.real("router_aux_loss_coef", {0.0, 100.0}, defaults_.loss);
    if (mixtures_.empty()) return "moe:\n  layers: none\n";
    // Theirs is a sum over choices and a mean over the mixtures, ours the reverse.
    loss *= static_cast<double>(top_k) / static_cast<double>(mixtures_.size());
    std::string yaml = fmt::format(
        "moe:\n  experts: {}\n  layers: {}\n", experts,
        std::ssize(mixtures_) == layers_ ? "all" : fmt::format("[{}]", fmt::join(mixtures_, ", ")));
    yaml += fmt::format("  router: {{type: top_k, top_k: {}, normalize: {}, jitter: {}}}\n", top_k,
                        normalize, yaml_number(jitter));
    yaml += "  capacity: {overflow: dropless}\n";
    yaml += fmt::format("  losses: {{load_balance: {{coef: {}{}}}}}\n", yaml_number(loss),
                        loss > 0 ? ", scope: global" : "");
    return yaml;
  }

  Family family_;
  ForeignConfig& given_;
  const Defaults defaults_;
  ReadConfig read_;
  int64_t layers_ = 0;
  std::vector<int64_t> mixtures_;  // layers
};

}  // namespace

ReadConfig read_decoder(Family family, ForeignConfig& given) {
  return DecoderReader(family, given).read();
}

}  // namespace switchyard
