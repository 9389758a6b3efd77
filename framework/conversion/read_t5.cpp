// T5 and Switch Transformers: configuration_t5.py and configuration_switch_transformers.py of
// transformers 4.57.6, whose defaults hold for keys that are absent.
#include <fmt/format.h>

#include "conversion/activations.h"
#include "conversion/read_config.h"

namespace switchyard {

namespace {

struct StackDepths {
  int64_t encoder = 0, decoder = 0;
};

StackDepths depths(ForeignConfig& given, int64_t absent) {
  StackDepths of;
  of.encoder = given.integer("num_layers", {1, 1024}, absent);
  of.decoder = given.integer("num_decoder_layers", {1, 1024}, of.encoder);
  return of;
}

ModelConfig::Activation activation(ForeignConfig& given, const std::string& key,
                                   const std::string& name, bool gated) {
  const auto found = activation_named(name, gated);
  if (!found) given.refuse(key, fmt::format("there is no {}{} here", gated ? "gated " : "", name));
  return *found;
}

// What the two families have in common.
//   d_model, heads  defaults of the class
std::string model_section(ForeignConfig& given, const StackDepths& depth,
                          ModelConfig::Activation activation, bool tied, int64_t d_model,
                          int64_t heads) {
  given.only("is_encoder_decoder", true, "the model has an encoder");
  if (given.has("decoder_start_token_id")) {
    const int64_t pad = given.integer("pad_token_id", {0, 1 << 24}, 0);
    given.only("decoder_start_token_id", pad, "decoders begin with the id of padding here");
  }
  std::string yaml = fmt::format("model:\n  type: switch_t5\n  vocabulary: {}\n",
                                 given.integer("vocab_size", {1, 1 << 24}));
  const auto add = [&](const char* key, const std::string& value) {
    yaml += fmt::format("  {}: {}\n", key, value);
  };
  const auto number = [&](const char* key, const char* theirs, int64_t limit, int64_t absent) {
    add(key, std::to_string(given.integer(theirs, {1, limit}, absent)));
  };
  number("d_model", "d_model", 1 << 16, d_model);
  number("d_kv", "d_kv", 1 << 12, 64);
  number("d_ff", "d_ff", 1 << 20, 2048);
  number("heads", "num_heads", 1 << 10, heads);
  add("encoder_layers", std::to_string(depth.encoder));
  add("decoder_layers", std::to_string(depth.decoder));
  add("activation", config_name(activation));
  add("dropout", yaml_number(given.real("dropout_rate", {0.0, 0.95}, 0.1)));
  add("relative_attention",
      fmt::format("{{buckets: {}, max_distance: {}}}",
                  given.integer("relative_attention_num_buckets", {4, 4096}, 32),
                  given.integer("relative_attention_max_distance", {3, 1 << 20}, 128)));
  add("norm_epsilon", yaml_number(given.real("layer_norm_epsilon", {1e-12, 1e-1}, 1e-6)));
  add("tie_embeddings", tied ? "true" : "false");
  return yaml;
}

// Layers i with i % step == 1, all for a step of 1, none for 0 (sparse steps of transformers).
std::string layers_of_step(int64_t step, int64_t layers) {
  if (step == 1) return "all";
  return step == 0 || layers < 2 ? "none" : fmt::format("{{every: {}}}", step);
}

int64_t mixtures_of_step(int64_t step, int64_t layers) {
  int64_t count = 0;
  for (int64_t i = 0; i < layers; ++i) count += step > 0 && (step == 1 || i % step == 1);
  return count;
}

int64_t sparse_step(ForeignConfig& given, const std::string& stack, int64_t layers) {
  const int64_t mixtures = given.integer(fmt::format("num_sparse_{}_layers", stack), {0, 1024}, 3);
  // Written after the class has computed it, what the file says wins.
  const int64_t computed = mixtures > 0 ? layers / mixtures : layers;
  return given.integer(stack + "_sparse_step", {0, 1024}, computed);
}

std::string moe_section(ForeignConfig& given, const StackDepths& depth) {
  const int64_t steps[] = {sparse_step(given, "encoder", depth.encoder),
                           sparse_step(given, "decoder", depth.decoder)};
  const int64_t mixtures[] = {mixtures_of_step(steps[0], depth.encoder),
                              mixtures_of_step(steps[1], depth.decoder)};
  const int64_t experts = given.integer("num_experts", {1, 65'536}, 8);
  const int64_t capacity = given.integer("expert_capacity", {0, 1 << 30}, 64);
  const double jitter = given.real("router_jitter_noise", {0.0, 0.5}, 0.01);
  // Theirs is a mean over the mixtures of a stack, ours a sum over all.
  const int64_t stacks = (mixtures[0] > 0) + (mixtures[1] > 0);
  const double share =
      stacks == 0 ? 0.0
                  : static_cast<double>(stacks) / static_cast<double>(mixtures[0] + mixtures[1]);
  const double balance = given.real("router_aux_loss_coef", {0.0, 100.0}, 0.001) * share;
  const double z = given.real("router_z_loss_coef", {0.0, 100.0}, 0.001) * share;
  if (stacks == 0) return "moe:\n  encoder: {layers: none}\n  decoder: {layers: none}\n";
  std::string yaml = fmt::format(
      "moe:\n  experts: {}\n  group_sequences: 1\n"
      "  capacity: {{tokens: {}, padding_takes_capacity: true, overflow: drop}}\n"
      "  losses:\n    load_balance: {{coef: {}}}\n    router_z: {{coef: {}}}\n",
      experts, capacity, yaml_number(balance), yaml_number(z));
  const int64_t layers[] = {depth.encoder, depth.decoder};
  const char* const names[] = {"encoder", "decoder"};
  for (int i = 0; i < 2; ++i) {
    const std::string router =
        mixtures[i] > 0 ? fmt::format(", router: {{type: switch, jitter: {}}}", yaml_number(jitter))
                        : "";
    yaml += fmt::format("  {}: {{layers: {}{}}}\n", names[i],
                        mixtures[i] > 0 ? layers_of_step(steps[i], layers[i]) : "none", router);
  }
  return yaml;
}

}  // namespace

ReadConfig read_switch_transformers(ForeignConfig& given) {
  ReadConfig read{.dialect = {.family = Family::kSwitchTransformers,
                              .tied = given.boolean("tie_word_embeddings", true)}};
  given.only("router_type", "tokens_masked", "the router must be the Switch Transformer's");
  given.only("num_selected_experts", 1, "its tokens go to one expert");
  given.only("router_bias", false, "gates have no bias here");
  given.only("router_dtype", "float32", "gates are computed in float32 here");
  given.only("is_gated_act", false, "transformers has no gated experts for it");
  // transformers never reads these.
  given.ignore({"router_ignore_padding_tokens", "add_router_probs", "feed_forward_proj"});
  const StackDepths depth = depths(given, 12);
  const auto function =
      activation(given, "dense_act_fn", given.text("dense_act_fn", "relu"), false);
  read.yaml = model_section(given, depth, function, read.dialect.tied, 768, 12);
  read.yaml += moe_section(given, depth);
  return read;
}

ReadConfig read_t5(ForeignConfig& given) {
  ReadConfig read{
      .dialect = {.family = Family::kT5, .tied = given.boolean("tie_word_embeddings", true)}};
  // Version 1.1's "gated-gelu" is the approximation by tanh, whatever its name says; what the file
  // says of the parts wins.
  const std::string whole = given.text("feed_forward_proj", "relu");
  const size_t dash = whole.find('-');
  const bool gated = dash != std::string::npos;
  if (gated && whole.substr(0, dash) != "gated") given.refuse("feed_forward_proj", "unknown");
  const std::string part = whole == "gated-gelu" ? "gelu_new" : whole.substr(gated ? dash + 1 : 0);
  const std::string name = given.text("dense_act_fn", part);
  read.dialect.gated = given.boolean("is_gated_act", gated);
  const StackDepths depth = depths(given, 6);
  const std::string key = given.has("dense_act_fn") ? "dense_act_fn" : "feed_forward_proj";
  read.yaml = model_section(given, depth, activation(given, key, name, read.dialect.gated),
                            read.dialect.tied, 512, 8);
  read.yaml += "moe:\n  encoder: {layers: none}\n  decoder: {layers: none}\n";
  return read;
}

}  // namespace switchyard
