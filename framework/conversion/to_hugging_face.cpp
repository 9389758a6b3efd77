#include "conversion/to_hugging_face.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/errors.h"
#include "config/resolve.h"
#include "config/span_lengths.h"
#include "conversion/activations.h"
#include "moe/top_k_router.h"

namespace switchyard {

namespace {

// Capacity of a Switch Transformer that drops nothing: no sequence is longer.
constexpr int64_t kUnlimited = int64_t{1} << 30;

const char* torch_name(StoredType type) {
  switch (type) {
    case StoredType::kBF16:
      return "bfloat16";
    case StoredType::kF16:
      return "float16";
    case StoredType::kF64:
      return "float64";
    default:
      return "float32";
  }
}

nlohmann::json id_or_null(int id) { return id >= 0 ? nlohmann::json(id) : nlohmann::json(); }

// Twelve digits: a coefficient that went through a product and a quotient reads as it was.
double rounded(double number) { return std::stod(fmt::format("{:.12g}", number)); }

class Exporter {
 public:
  Exporter(const Config& config, int64_t vocabulary, const SpecialPieces& ids, StoredType type,
           const ExportCapacity& capacity)
      : config_(config), model_(config.model), capacity_(capacity), stacks_(stacks_of(config)) {
    json_["vocab_size"] = vocabulary;
    json_["torch_dtype"] = torch_name(type);
    json_["transformers_version"] = "4.57.6";
    json_["use_cache"] = true;
    json_["tie_word_embeddings"] = model_.tie_embeddings;
    json_["pad_token_id"] = id_or_null(ids.pad.id);
    json_["eos_token_id"] = id_or_null(ids.eos.id);
    ids_ = ids;
  }

  ExportedConfig write() {
    exported_.dialect = {
        .family = family(), .gated = is_gated(model_.activation), .tied = model_.tie_embeddings};
    json_["model_type"] = name_of(exported_.dialect.family);
    json_["architectures"] = {class_of(exported_.dialect.family)};
    check_mixtures();
    if (model_.is_decoder_only()) {
      write_decoder();
    } else {
      write_t5();
      if (has_experts(config_)) write_switch();
    }
    exported_.json = json_.dump(2) + "\n";
    return std::move(exported_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what, std::initializer_list<std::string> keys,
                           const std::string& advice) const {
    throw ConfigError("Hugging Face can't express the model: " + what, config_.origins.of(keys),
                      advice);
  }

  Family family() const {
    if (!model_.is_decoder_only()) {
      return has_experts(config_) ? Family::kSwitchTransformers : Family::kT5;
    }
    switch (model_.qk_norm) {
      case ModelConfig::QkNorm::kNone:
        return Family::kMixtral;
      case ModelConfig::QkNorm::kWhole:
        return Family::kOlmoe;
      case ModelConfig::QkNorm::kPerHead:
        break;
    }
    return Family::kQwen3Moe;
  }

  // What no family has.
  void check_mixtures() const {
    for (const StackConfig& stack : stacks_) {
      if (stack.moe->layers.is_none()) continue;
      if (config_.moe.shared_experts > 0) {
        refuse("moe.shared_experts stand beside its mixtures", {"moe.shared_experts"},
               "models with shared experts stay here");
      }
      for (const LayerExpertsConfig& own : stack.moe->pyramid) {
        if (own.experts == config_.moe.experts) continue;
        refuse(fmt::format("{}.pyramid gives layers different numbers of experts", stack.moe_path),
               {stack.moe_path + ".pyramid"}, "all mixtures there have as many experts");
      }
    }
  }

  // The options of a stack's router as those of top_k.
  TopKRouterOptions router_of(const StackConfig& stack) const {
    const Choice& router = stack.moe->router;
    const std::string path = stack.moe_path + ".router";
    if (router.type == "switch") {
      return TopKRouterOptions(router.as<SwitchRouterOptions>());
    }
    if (router.type != "top_k") {
      refuse(fmt::format("it has no router {}", router.type), {path + ".type"},
             "switch and top_k can be expressed");
    }
    TopKRouterOptions options = router.as<TopKRouterOptions>();
    const auto need = [&](bool plain, const char* key, const char* what) {
      if (!plain) refuse(what, {path + "." + key}, "models of DeepSeek's kind stay here");
    };
    need(options.score == TopKRouterOptions::Score::kSoftmax, "score",
         "its routers score by a softmax over all experts");
    need(options.scale == 1.0, "scale", "its routers don't scale their weights");
    need(options.groups.count == 1, "groups", "its routers don't choose groups of experts");
    need(options.bias_update_rate == 0.0, "bias_update_rate",
         "its routers have no bias that balances the load");
    return options;
  }

  void write_t5() {
    const bool gated = is_gated(model_.activation);
    const std::string function = hugging_face_name(model_.activation);
    json_["is_encoder_decoder"] = true;
    json_["decoder_start_token_id"] = ids_.pad.id >= 0 ? ids_.pad.id : std::max(ids_.eos.id, 0);
    json_["d_model"] = model_.d_model;
    json_["d_kv"] = resolve_d_kv(model_);
    json_["d_ff"] = model_.d_ff;
    json_["num_heads"] = model_.heads;
    json_["num_layers"] = model_.encoder_layers;
    json_["num_decoder_layers"] = model_.decoder_layers;
    json_["dropout_rate"] = model_.dropout;
    json_["initializer_factor"] = 1.0;
    json_["layer_norm_epsilon"] = model_.norm_epsilon;
    json_["relative_attention_num_buckets"] = model_.relative_attention.buckets;
    json_["relative_attention_max_distance"] = model_.relative_attention.max_distance;
    json_["dense_act_fn"] = function;
    json_["is_gated_act"] = gated;
    // T5's class knows the approximation of version 1.1 by this name.
    const std::string whole = gated && function == "gelu_new" ? "gelu" : function;
    json_["feed_forward_proj"] = (gated ? "gated-" : "") + whole;
  }

  // The step of transformers that picks the same layers.
  int64_t sparse_step(const StackConfig& stack) const {
    const std::vector<int64_t> chosen = stack.moe->layers.of(stack.layers);
    if (chosen.empty()) return 0;
    for (int64_t step = 1; step <= stack.layers; ++step) {
      if (LayerSet::every(step).of(stack.layers) == chosen) return step;
    }
    refuse(fmt::format("{}.layers = {} isn't every n-th layer, from layer 1", stack.moe_path,
                       stack.moe->layers.text()),
           {stack.moe_path + ".layers"}, "its mixtures are layers i with i % n = 1");
  }

  void write_switch() {
    if (is_gated(model_.activation)) {
      refuse(fmt::format("model.activation = {}: its Switch Transformer isn't gated",
                         config_name(model_.activation)),
             {"model.activation"}, "relu, gelu, gelu_tanh, silu and relu2 can be expressed");
    }
    int64_t mixtures = 0, stacks = 0;
    double jitter = 0;
    for (const StackConfig& stack : stacks_) {
      const int64_t step = sparse_step(stack);
      const auto count = std::ssize(stack.moe->layers.of(stack.layers));
      json_[stack.name + "_sparse_step"] = step;
      json_[fmt::format("num_sparse_{}_layers", stack.name)] = count;
      if (step == 0) continue;
      mixtures += count;
      ++stacks;
      const TopKRouterOptions router = router_of(stack);
      if (router.top_k != 1 || router.normalize) {
        refuse(fmt::format("its Switch Transformer sends a token to one expert, {} to {}",
                           stack.moe_path, router.top_k),
               {stack.moe_path + ".router.top_k", stack.moe_path + ".router.type"},
               "top_k with normalize: false and top_k: 1, or switch, can be expressed");
      }
      jitter = router.jitter;
    }
    json_["num_experts"] = config_.moe.experts;
    json_["num_selected_experts"] = 1;
    json_["expert_capacity"] = switch_capacity();
    json_["router_type"] = "tokens_masked";
    json_["router_bias"] = false;
    json_["router_dtype"] = "float32";
    json_["router_ignore_padding_tokens"] = false;
    json_["router_jitter_noise"] = jitter;
    json_["add_router_probs"] = false;
    const double share = static_cast<double>(mixtures) / static_cast<double>(stacks);
    json_["router_aux_loss_coef"] = rounded(config_.moe.losses.load_balance.coef * share);
    json_["router_z_loss_coef"] = rounded(config_.moe.losses.router_z.coef * share);
  }

  // Tokens of a sequence that an expert takes.
  int64_t switch_capacity() const {
    if (capacity_.stated) return capacity_.tokens.value_or(kUnlimited);
    std::optional<int64_t> tokens;
    for (const StackConfig& stack : stacks_) {
      if (stack.moe->layers.is_none()) continue;
      const CapacityConfig& rule = config_.moe.capacity_of(*stack.moe);
      int64_t own = kUnlimited;
      if (rule.overflow != CapacityConfig::Overflow::kDropless) {
        const bool same = rule.overflow == CapacityConfig::Overflow::kDrop && rule.tokens &&
                          rule.priority == CapacityConfig::Priority::kPosition &&
                          rule.padding_takes_capacity && resolve_group_sequences(config_) == 1;
        if (!same) refuse_capacity(stack);
        own = *rule.tokens;
      }
      if (tokens && *tokens != own) refuse_capacity(stack);
      tokens = own;
    }
    return tokens.value_or(kUnlimited);
  }

  [[noreturn]] void refuse_capacity(const StackConfig& stack) const {
    refuse(fmt::format("it gives an expert a number of tokens of each sequence, padding too, in "
                       "both stacks the same; {} shares out room otherwise",
                       stack.moe_path),
           {stack.moe_path + ".capacity", "moe.capacity.overflow", "moe.group_sequences",
            "moe.capacity"},
           "give --expert-capacity N, or none, with which nothing is dropped there");
  }

  void write_decoder() {
    const StackConfig& stack = stacks_.front();
    const Family family = exported_.dialect.family;
    const std::vector<int64_t> mixtures = stack.moe->layers.of(stack.layers);
    if (!is_gated(model_.activation)) {
      refuse(fmt::format("model.activation = {}: its decoders are gated",
                         config_name(model_.activation)),
             {"model.activation"}, "swiglu, geglu and reglu can be expressed");
    }
    if (family != Family::kQwen3Moe && std::ssize(mixtures) != stack.layers) {
      refuse(fmt::format("all layers of {} are mixtures, {} of {} here", name_of(family),
                         mixtures.size(), stack.layers),
             {"moe.layers", "model.qk_norm"},
             mixtures.empty() ? "--upcycle experts=N makes a dense model a mixture"
                              : "only with model.qk_norm: per_head (Qwen3) may layers be dense");
    }
    write_decoder_shape();
    write_decoder_mixtures(stack, mixtures);
  }

  void write_decoder_shape() {
    const Family family = exported_.dialect.family;
    const int64_t d_kv = resolve_d_kv(model_);
    json_["bos_token_id"] = id_or_null(ids_.bos.id);
    json_["hidden_size"] = model_.d_model;
    json_["intermediate_size"] = model_.d_ff;
    json_["num_hidden_layers"] = model_.layers;
    json_["num_attention_heads"] = model_.heads;
    json_["num_key_value_heads"] = model_.kv_heads.value_or(model_.heads);
    json_["hidden_act"] = hugging_face_name(model_.activation);
    json_["max_position_embeddings"] = config_.data.length;
    json_["initializer_range"] = model_.init_deviation;
    json_["rms_norm_eps"] = model_.norm_epsilon;
    json_["rope_theta"] = model_.rope_theta;
    json_["attention_dropout"] = 0.0;
    json_["output_router_logits"] = false;
    if (family != Family::kOlmoe) {
      json_["head_dim"] = d_kv;
    } else if (d_kv * model_.heads != model_.d_model) {
      refuse(fmt::format("olmoe's heads share out d_model = {}, here they are {} of {}",
                         model_.d_model, model_.heads, d_kv),
             {"model.d_kv", "model.heads"}, "with model.qk_norm: per_head (Qwen3) they may differ");
    }
    if (family != Family::kMixtral) {
      json_["rope_scaling"] = nullptr;
      json_["attention_bias"] = false;
    }
    if (family == Family::kOlmoe) {
      json_["clip_qkv"] = nullptr;
      if (model_.sliding_window) {
        refuse("olmoe has no sliding window", {"model.sliding_window"},
               "mixtral (qk_norm: none) and qwen3_moe (per_head) have one");
      }
      return;
    }
    json_["sliding_window"] =
        model_.sliding_window ? nlohmann::json(*model_.sliding_window) : nlohmann::json();
    if (family == Family::kQwen3Moe) {
      json_["use_sliding_window"] = model_.sliding_window.has_value();
      json_["moe_intermediate_size"] = model_.d_ff;
    }
  }

  void write_decoder_mixtures(const StackConfig& stack, const std::vector<int64_t>& mixtures) {
    const Family family = exported_.dialect.family;
    json_[family == Family::kMixtral ? "num_local_experts" : "num_experts"] = config_.moe.experts;
    if (family == Family::kQwen3Moe) {
      nlohmann::json dense = nlohmann::json::array();
      for (int64_t i = 0; i < stack.layers; ++i) {
        if (!stack.moe->layers.contains(i)) dense.push_back(i);
      }
      json_["mlp_only_layers"] = dense;
      json_["decoder_sparse_step"] = 1;
    }
    if (mixtures.empty()) return;
    const TopKRouterOptions router = router_of(stack);
    if (family == Family::kMixtral) {
      if (!router.normalize) {
        refuse("mixtral divides a token's weights by their sum",
               {stack.moe_path + ".router.normalize", stack.moe_path + ".router.type"},
               "olmoe (model.qk_norm: whole) and qwen3_moe (per_head) needn't");
      }
      json_["router_jitter_noise"] = router.jitter;
    } else {
      json_["norm_topk_prob"] = router.normalize;
    }
    json_["num_experts_per_tok"] = router.top_k;
    const double share = static_cast<double>(mixtures.size()) / static_cast<double>(router.top_k);
    json_["router_aux_loss_coef"] = rounded(config_.moe.losses.load_balance.coef * share);
    check_dropless(stack);
  }

  void check_dropless(const StackConfig& stack) const {
    const std::string name = name_of(exported_.dialect.family);
    if (capacity_.stated && capacity_.tokens) {
      throw ConfigError(
          fmt::format("--expert-capacity {}: {} drops no token", *capacity_.tokens, name), "",
          "give --expert-capacity none, or leave it out");
    }
    const auto overflow = config_.moe.capacity_of(*stack.moe).overflow;
    if (capacity_.stated || overflow == CapacityConfig::Overflow::kDropless) return;
    refuse(fmt::format("{} drops no token, moe.capacity.overflow isn't dropless", name),
           {"moe.capacity.overflow", "moe.capacity"},
           "give --expert-capacity none: nothing is dropped there");
  }

  const Config& config_;
  const ModelConfig& model_;
  const ExportCapacity capacity_;
  const std::vector<StackConfig> stacks_;
  SpecialPieces ids_;
  nlohmann::json json_;
  ExportedConfig exported_;
};

}  // namespace

ExportedConfig export_config(const Config& config, int64_t vocabulary, const SpecialPieces& ids,
                             StoredType type, const ExportCapacity& capacity) {
  return Exporter(config, vocabulary, ids, type, capacity).write();
}

ExportedTokenizer export_tokenizer(Family family, const SpecialPieces& pieces) {
  nlohmann::json config, special;
  const auto add = [&](const char* key, const SpecialPiece& piece) {
    config[key] = piece.id >= 0 ? nlohmann::json(piece.text) : nlohmann::json();
    if (piece.id >= 0) special[key] = piece.text;
  };
  add("eos_token", pieces.eos);
  add("unk_token", pieces.unknown);
  add("pad_token", pieces.pad);
  config["clean_up_tokenization_spaces"] = false;
  // SentencePiece sees each stretch between special tokens by itself, as here.
  config["legacy"] = true;
  ExportedTokenizer exported;
  if (is_encoder_decoder(family)) {
    exported.model_file = "spiece.model";
    config["tokenizer_class"] = "T5Tokenizer";
    config["extra_ids"] = kSentinels;
    nlohmann::json sentinels = nlohmann::json::array();
    for (int k = 0; k < kSentinels; ++k) sentinels.push_back(fmt::format("<extra_id_{}>", k));
    config["additional_special_tokens"] = sentinels;
    special["additional_special_tokens"] = sentinels;
  } else {
    exported.model_file = "tokenizer.model";
    config["tokenizer_class"] = "LlamaTokenizer";
    add("bos_token", pieces.bos);
    config["add_bos_token"] = pieces.bos.id >= 0;
    config["add_eos_token"] = false;
  }
  exported.texts = {{"tokenizer_config.json", config.dump(2) + "\n"},
                    {"special_tokens_map.json", special.dump(2) + "\n"}};
  return exported;
}

}  // namespace switchyard
