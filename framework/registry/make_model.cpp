#include "registry/make_model.h"

#include <cmath>

#include "config/resolve.h"
#include "layers/dense_ffn.h"
#include "models/decoder_lm.h"
#include "models/switch_t5.h"
#include "registry/choices.h"

namespace switchyard {

namespace {

struct FfnKind {
  Activation activation;
  bool gated = false;
};

FfnKind ffn_kind_of(ModelConfig::Activation activation) {
  switch (activation) {
    case ModelConfig::Activation::kRelu:
      return {Activation::kRelu};
    case ModelConfig::Activation::kGelu:
      return {Activation::kGelu};
    case ModelConfig::Activation::kGeluTanh:
      return {Activation::kGeluTanh};
    case ModelConfig::Activation::kSilu:
      return {Activation::kSilu};
    case ModelConfig::Activation::kRelu2:
      return {Activation::kRelu2};
    case ModelConfig::Activation::kReglu:
      return {Activation::kRelu, true};
    case ModelConfig::Activation::kGeglu:
      return {Activation::kGelu, true};
    case ModelConfig::Activation::kGegluTanh:
      return {Activation::kGeluTanh, true};
    case ModelConfig::Activation::kSwiglu:
      return {Activation::kSilu, true};
  }
  return {Activation::kNone};
}

CapacityRule::Priority priority_of(CapacityConfig::Priority priority) {
  switch (priority) {
    case CapacityConfig::Priority::kPosition:
      return CapacityRule::Priority::kPosition;
    case CapacityConfig::Priority::kProbability:
      return CapacityRule::Priority::kProbability;
    case CapacityConfig::Priority::kRandom:
      return CapacityRule::Priority::kRandom;
  }
  return CapacityRule::Priority::kPosition;
}

CapacityRule::Overflow overflow_of(CapacityConfig::Overflow overflow) {
  switch (overflow) {
    case CapacityConfig::Overflow::kDrop:
      return CapacityRule::Overflow::kDrop;
    case CapacityConfig::Overflow::kReroute:
      return CapacityRule::Overflow::kReroute;
    case CapacityConfig::Overflow::kDropless:
      return CapacityRule::Overflow::kDropless;
  }
  return CapacityRule::Overflow::kDrop;
}

CapacityRule capacity_rule(const CapacityConfig& config) {
  return {.train_factor = config.train_factor,
          .eval_factor = config.eval_factor,
          .min_tokens = config.min_tokens,
          .round_up = config.rounding == CapacityConfig::Rounding::kCeil,
          .tokens = config.tokens,
          .padding_takes_capacity = config.padding_takes_capacity,
          .priority = priority_of(config.priority),
          .overflow = overflow_of(config.overflow)};
}

std::unique_ptr<Dispatch> make_dispatch(MoeConfig::Dispatch dispatch) {
  switch (dispatch) {
    case MoeConfig::Dispatch::kAllToAll:
      return make_all_to_all_dispatch();
    case MoeConfig::Dispatch::kAllGather:
      return make_all_gather_dispatch();
    case MoeConfig::Dispatch::kHierarchical:
      return make_hierarchical_dispatch();
  }
  return make_all_to_all_dispatch();
}

Exchange::Options exchange_options(const MoeConfig& config, const CapacityConfig& capacity) {
  return {.dispatch = make_dispatch(config.dispatch),
          .schedule = {.max_rows_per_round = capacity.max_tokens_per_round,
                       .chunks = config.overlap_chunks},
          .wire_bfloat16 = config.wire_dtype == MoeConfig::WireDtype::kBFloat16};
}

// Those that the router has.
AuxiliaryLosses auxiliary_losses(const MoeLossesConfig& config, const RouterTraits& traits) {
  const bool global = config.load_balance.scope == LoadBalanceConfig::Scope::kGlobal;
  return {.load_balance = traits.load_balance ? config.load_balance.coef : 0.0,
          .router_z = traits.router_z ? config.router_z.coef : 0.0,
          .importance = traits.importance ? config.importance.coef : 0.0,
          .load = traits.load ? config.load.coef : 0.0,
          .load_balance_scope =
              global ? AuxiliaryLosses::Scope::kGlobal : AuxiliaryLosses::Scope::kGroup};
}

QkNorm qk_norm_of(ModelConfig::QkNorm norm) {
  switch (norm) {
    case ModelConfig::QkNorm::kNone:
      return QkNorm::kNone;
    case ModelConfig::QkNorm::kPerHead:
      return QkNorm::kPerHead;
    case ModelConfig::QkNorm::kWhole:
      return QkNorm::kWhole;
  }
  return QkNorm::kNone;
}

// What every layer of the model is built with.
class ModelBuilder {
 public:
  ModelBuilder(const Config& config, int64_t vocabulary, Kernels& kernels, const Groups& groups)
      : config_(config),
        vocabulary_(vocabulary),
        memory_(kernels.memory()),
        groups_(groups),
        activations_(precision_of(config)),
        weights_(accurate(activations_)),
        init_(initialisation_of(config.model)),
        loss_({.label_smoothing = config.train.label_smoothing,
               .output_z = config.train.output_z_loss}),
        seed_(static_cast<uint64_t>(config.seed)) {}

  std::unique_ptr<Model> switch_t5() const {
    const std::vector<StackConfig> stacks = stacks_of(config_);
    const SwitchT5::Options options{.vocabulary = vocabulary_,
                                    .tie_embeddings = config_.model.tie_embeddings,
                                    .init = init_,
                                    .loss = loss_,
                                    .encoder = t5_stack_options(StackKind::kEncoder),
                                    .decoder = t5_stack_options(StackKind::kDecoder)};
    return std::make_unique<SwitchT5>(options, feed_forwards(StackKind::kEncoder, stacks[0]),
                                      feed_forwards(StackKind::kDecoder, stacks[1]), activations_,
                                      memory_, seed_);
  }

  std::unique_ptr<Model> decoder_lm() const {
    const ModelConfig& model = config_.model;
    Stack::Options stack = stack_options(StackKind::kDecoder);
    stack.rope_theta = model.rope_theta;
    stack.block.decoder_only = true;
    stack.block.kv_heads = model.kv_heads.value_or(model.heads);
    stack.block.window = model.sliding_window.value_or(0);
    stack.block.attention_scale = 1.0 / std::sqrt(static_cast<double>(stack.block.d_kv));
    stack.block.qk_norm = qk_norm_of(model.qk_norm);
    stack.block.norm_rounding = NormRounding::kBeforeWeight;
    const DecoderLm::Options options{.vocabulary = vocabulary_,
                                     .tie_embeddings = model.tie_embeddings,
                                     .loss = loss_,
                                     .stack = stack};
    return std::make_unique<DecoderLm>(
        options, feed_forwards(StackKind::kDecoder, stacks_of(config_).front()), activations_,
        memory_, seed_);
  }

 private:
  Stack::Options stack_options(StackKind stack) const {
    const ModelConfig& model = config_.model;
    return {.block = {.d_model = model.d_model,
                      .d_kv = resolve_d_kv(model),
                      .heads = model.heads,
                      .norm_epsilon = model.norm_epsilon,
                      .dropout = model.dropout,
                      .stack = stack,
                      .init = init_},
            .recompute = config_.train.recompute == TrainConfig::Recompute::kBlocks};
  }

  Stack::Options t5_stack_options(StackKind stack) const {
    const RelativeAttentionConfig& bias = config_.model.relative_attention;
    Stack::Options options = stack_options(stack);
    options.position_bias =
        RelativePositionBias::Options{.buckets = bias.buckets,
                                      .max_distance = bias.max_distance,
                                      .heads = config_.model.heads,
                                      .bidirectional = stack == StackKind::kEncoder};
    return options;
  }

  std::vector<std::unique_ptr<FeedForward>> feed_forwards(StackKind kind,
                                                          const StackConfig& stack) const {
    std::vector<std::unique_ptr<FeedForward>> list;
    for (int64_t i = 0; i < stack.layers; ++i) {
      const std::string name = block_name(kind, i);
      const uint16_t layer = layer_id(kind, i);
      list.push_back(
          stack.moe->layers.contains(i)
              ? mixture(name + ".moe", layer, *stack.moe, config_.moe.experts_of(*stack.moe, i))
              : dense(name + ".ffn", layer, config_.model.d_ff));
    }
    return list;
  }

  std::unique_ptr<FeedForward> dense(const std::string& name, uint16_t layer, int64_t d_ff) const {
    const ModelConfig& model = config_.model;
    const FfnKind kind = ffn_kind_of(model.activation);
    const DenseFfn::Options options{.d_model = model.d_model,
                                    .d_ff = d_ff,
                                    .activation = kind.activation,
                                    .gated = kind.gated,
                                    .dropout = model.dropout,
                                    .layer = layer,
                                    .init = init_};
    return std::make_unique<DenseFfn>(name, options, weights_, memory_, seed_);
  }

  std::unique_ptr<FeedForward> mixture(const std::string& name, uint16_t layer,
                                       const MoeStackConfig& moe, int64_t all_experts) const {
    const ModelConfig& model = config_.model;
    const MoeConfig& shared = config_.moe;
    RouterPlace of_router = place(name + ".router", layer, all_experts);
    of_router.slots = slots_of_expert(moe, all_experts);
    auto router = make_router(moe.router, of_router);
    const ExpertRange range =
        experts_of_rank(all_experts, groups_.expert->size(), groups_.expert->rank());
    const FfnKind kind = ffn_kind_of(model.activation);
    const Experts::Options options{.d_model = model.d_model,
                                   .d_ff = model.d_ff,
                                   .activation = kind.activation,
                                   .gated = kind.gated,
                                   .dropout = resolve_expert_dropout(config_),
                                   .layer = layer,
                                   .init = init_,
                                   .slice = groups_.tensor->rank(),
                                   .slices = groups_.tensor->size()};
    auto experts =
        std::make_unique<Experts>(name + ".expert", range, options, weights_, memory_, seed_);
    const CapacityConfig& capacity = shared.capacity_of(moe);
    const RouterTraits& traits = router_traits(moe.router);
    CapacityRule rule = capacity_rule(capacity);
    // Its experts fill the room, so that nothing is left to drop.
    if (!traits.takes_room) rule.overflow = CapacityRule::Overflow::kDropless;
    return std::make_unique<MoeLayer>(name, layer, std::move(router), std::move(experts), rule,
                                      auxiliary_losses(shared.losses, traits),
                                      exchange_options(shared, capacity), dense_path(name, layer));
  }

  // train_factor * the encoder's length / experts, rounded up: slots are for encoders alone.
  int64_t slots_of_expert(const MoeStackConfig& moe, int64_t experts) const {
    const CapacityRule rule{.train_factor = config_.moe.capacity_of(moe).train_factor,
                            .min_tokens = 1};
    return capacity_of_group(rule, true, 1, config_.data.inputs_length, experts);
  }

  // moe.shared_experts; null where there are none.
  std::unique_ptr<DensePath> dense_path(const std::string& name, uint16_t layer) const {
    const MoeConfig& moe = config_.moe;
    if (moe.shared_experts == 0) return nullptr;
    std::optional<RouterPlace> mixing;
    if (moe.residual) mixing.emplace(place(name + ".mix", layer, moe.experts));
    return std::make_unique<DensePath>(
        dense(name + ".shared", layer, moe.shared_experts * config_.model.d_ff), mixing);
  }

  RouterPlace place(const std::string& name, uint16_t layer, int64_t experts) const {
    const int64_t d_model = config_.model.d_model;
    return {.name = name,
            .layer = layer,
            .experts = experts,
            .d_model = d_model,
            .initial = init_.matrix(d_model),
            .dtype = weights_,
            .memory = memory_,
            .seed = seed_,
            .vocabulary = vocabulary_};
  }

  const Config& config_;
  int64_t vocabulary_;
  Memory& memory_;
  const Groups& groups_;
  DType activations_, weights_;
  Initialisation init_;
  LossOptions loss_;
  uint64_t seed_;
};

}  // namespace

Initialisation initialisation_of(const ModelConfig& model) {
  if (model.is_decoder_only()) return {.deviation = model.init_deviation};
  return {.scale = model.init_scale};
}

DType precision_of(const Config& config) {
  switch (config.train.precision) {
    case TrainConfig::Precision::kBFloat16:
      return DType::kBFloat16;
    case TrainConfig::Precision::kFloat64:
      return DType::kFloat64;
    case TrainConfig::Precision::kFloat32:
      break;
  }
  return DType::kFloat32;
}

std::unique_ptr<Model> make_model(const Config& config, int64_t vocabulary, Kernels& kernels,
                                  const Groups& groups) {
  const ModelBuilder builder(config, vocabulary, kernels, groups);
  return config.model.is_decoder_only() ? builder.decoder_lm() : builder.switch_t5();
}

}  // namespace switchyard
