#include "conversion/model_tensors.h"

#include <fmt/format.h>

#include "base/errors.h"
#include "config/resolve.h"
#include "conversion/activations.h"
#include "moe/top_k_router.h"

namespace switchyard {

namespace {

class Lister {
 public:
  Lister(const Config& config, int64_t vocabulary) : config_(config), vocabulary_(vocabulary) {}

  std::vector<TensorSpec> list() {
    const ModelConfig& model = config_.model;
    const bool alone = model.is_decoder_only();
    add(alone ? "embedding" : "shared_embedding", {vocabulary_, model.d_model});
    for (const StackConfig& stack : stacks_of(config_)) {
      if (!alone) {
        add(stack.name + ".position_bias", {model.relative_attention.buckets, model.heads});
      }
      for (int64_t i = 0; i < stack.layers; ++i) add_block(stack, i);
      add(stack.name + ".final_norm", {model.d_model});
    }
    if (!model.tie_embeddings) add("lm_head", {vocabulary_, model.d_model});
    return std::move(tensors_);
  }

 private:
  void add(std::string name, std::initializer_list<int64_t> shape, int64_t experts = 0) {
    tensors_.push_back({std::move(name), {shape.begin(), shape.end()}, experts});
  }

  void add_block(const StackConfig& stack, int64_t number) {
    const ModelConfig& model = config_.model;
    const std::string block = fmt::format("{}.block.{}", stack.name, number);
    add_attention(block + ".self_attention", model.kv_heads.value_or(model.heads), model.qk_norm);
    if (stack.causal && !model.is_decoder_only()) {
      add_attention(block + ".cross_attention", model.heads, ModelConfig::QkNorm::kNone);
    }
    add(block + ".ffn_norm", {model.d_model});
    if (stack.moe->layers.contains(number)) {
      add_mixture(block + ".moe", stack, number);
    } else {
      add_network(block + ".ffn", 0);
    }
  }

  void add_attention(const std::string& name, int64_t kv_heads, ModelConfig::QkNorm norm) {
    const ModelConfig& model = config_.model;
    const int64_t width = resolve_d_kv(model), D = model.d_model;
    add(name + "_norm", {D});
    add(name + ".q", {model.heads * width, D});
    add(name + ".k", {kv_heads * width, D});
    add(name + ".v", {kv_heads * width, D});
    add(name + ".o", {D, model.heads * width});
    if (norm == ModelConfig::QkNorm::kNone) return;
    const bool whole = norm == ModelConfig::QkNorm::kWhole;
    add(name + ".q_norm", {whole ? model.heads * width : width});
    add(name + ".k_norm", {whole ? kv_heads * width : width});
  }

  void add_network(const std::string& name, int64_t experts) {
    const int64_t D = config_.model.d_model, F = config_.model.d_ff;
    add(name + ".wi", {F, D}, experts);
    add(name + ".wo", {D, F}, experts);
    if (is_gated(config_.model.activation)) add(name + ".wg", {F, D}, experts);
  }

  void add_mixture(const std::string& name, const StackConfig& stack, int64_t layer) {
    if (config_.moe.shared_experts > 0) {
      throw ConfigError("shared experts can't be converted",
                        config_.origins.of({"moe.shared_experts"}),
                        "no family that is converted has them beside their mixtures");
    }
    const int64_t experts = config_.moe.experts_of(*stack.moe, layer);
    add_router(name + ".router", stack, experts);
    for (int64_t e = 0; e < experts; ++e) {
      add_network(fmt::format("{}.expert.{}", name, e), experts);
    }
  }

  void add_router(const std::string& name, const StackConfig& stack, int64_t experts) {
    const Choice& router = stack.moe->router;
    if (router.type == "hash") return;
    const bool one_gate = router.type == "switch" || router.type == "top_k" ||
                          router.type == "gshard" || router.type == "expert_choice" ||
                          router.type == "sinkhorn";
    if (!one_gate) {
      throw ConfigError(fmt::format("the router {} can't be converted: it has more weights than a "
                                    "gate",
                                    router.type),
                        config_.origins.of({stack.moe_path + ".router.type"}),
                        "use switch or top_k");
    }
    add(name, {experts, config_.model.d_model});
    if (router.type == "top_k" && router.as<TopKRouterOptions>().bias_update_rate > 0) {
      add(name + ".bias", {experts});
    }
  }

  const Config& config_;
  int64_t vocabulary_;
  std::vector<TensorSpec> tensors_;
};

}  // namespace

std::vector<TensorSpec> model_tensors(const Config& config, int64_t vocabulary) {
  return Lister(config, vocabulary).list();
}

}  // namespace switchyard
