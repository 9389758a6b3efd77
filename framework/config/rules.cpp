#include "config/rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/errors.h"
#include "config/resolve.h"
#include "config/suggest.h"

namespace switchyard {
namespace {

std::string divisors_text(int64_t number) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= number && divisors.size() < 24; ++d)
    if (number % d == 0) divisors.push_back(d);
  if (divisors.size() == 1) return fmt::format("{}", divisors[0]);
  const int64_t last = divisors.back();
  divisors.pop_back();
  return fmt::format("{} or {}", fmt::join(divisors, ", "), last);
}

void check_run(const Config& config) {
  const bool plain = !config.name.empty() && config.name != "." && config.name != ".." &&
                     config.name.find('/') == std::string::npos;
  if (!plain)
    throw ConfigError("name = '" + printable(config.name) + "' can't name a folder",
                      config.origins.of({"name"}), "leave '/' out; run.dir says where runs go");
  if (config.train.precision == TrainConfig::Precision::kFloat64 && config.device != "reference")
    throw ConfigError(
        "train.precision = float64 needs the reference device, not " + printable(config.device),
        config.origins.of({"train.precision", "device"}),
        "set device: reference, or precision: float32");
  if (config.train.precision == TrainConfig::Precision::kFloat64 &&
      config.train.reduction == TrainConfig::Reduction::kOrdered)
    throw ConfigError("train.reduction = ordered sums float32 gradients, not float64 ones",
                      config.origins.of({"train.reduction", "train.precision"}),
                      "set precision: float32, or reduction: fast");
}

void check_attention(const Config& config) {
  const ModelConfig& model = config.model;
  if (!model.d_kv && model.d_model % model.heads != 0)
    throw ConfigError(
        fmt::format("model.d_kv = auto can't share out model.d_model = {} to {} heads",
                    model.d_model, model.heads),
        config.origins.of({"model.heads", "model.d_model"}),
        "state d_kv, or use heads that divide d_model");
  if (resolve_d_kv(model) % 2 != 0)
    throw ConfigError(fmt::format("model.d_kv = {} is odd: rotary positions turn pairs of features",
                                  resolve_d_kv(model)),
                      config.origins.of({"model.d_kv", "model.heads", "model.d_model"}),
                      "use an even d_kv");
  if (model.kv_heads && model.heads % *model.kv_heads != 0)
    throw ConfigError(fmt::format("model.kv_heads = {} does not divide model.heads = {}",
                                  *model.kv_heads, model.heads),
                      config.origins.of({"model.kv_heads", "model.heads"}),
                      fmt::format("use {}", divisors_text(model.heads)));
}

void check_model(const Config& config) {
  if (config.model.is_decoder_only()) return check_attention(config);
  const RelativeAttentionConfig& bias = config.model.relative_attention;
  const std::string place = config.origins.of(
      {"model.relative_attention.buckets", "model.relative_attention.max_distance"});
  if (bias.buckets % 2 != 0)
    throw ConfigError(
        fmt::format("model.relative_attention.buckets = {} is odd", bias.buckets), place,
        "the encoder uses one half for keys before, one for keys after: give an even number");
  // The decoder counts the first half one by one, the rest by logarithm up to max_distance.
  if (bias.max_distance <= bias.buckets / 2)
    throw ConfigError(fmt::format("model.relative_attention.max_distance = {} is not beyond the {} "
                                  "distances that have a bucket each",
                                  bias.max_distance, bias.buckets / 2),
                      place, fmt::format("set it to {} or more", bias.buckets / 2 + 1));
}

// Whether a model can learn from the data's tasks.
void check_task(const Config& config) {
  const DataConfig& data = config.data;
  std::vector<std::pair<DataTask, std::string>> tasks;
  for (size_t i = 0; i < data.mixture.size(); ++i)
    tasks.emplace_back(data.mixture[i].task, fmt::format("data.mixture[{}].task", i));
  if (data.mixture.empty()) tasks.emplace_back(data.task, "data.task");
  for (const auto& [task, key] : tasks) {
    const std::string what = fmt::format("{} = {}", key, name_of(task));
    const std::string place = config.origins.of({key, "model.type"});
    if (task == DataTask::kCausal && !config.model.is_decoder_only())
      throw ConfigError(what + " is for models without an encoder, not for " + config.model.type,
                        place, "use span_corruption, or model.type: decoder_lm");
    if (task == DataTask::kSpanCorruption && config.model.is_decoder_only())
      throw ConfigError(what + " needs an encoder, which " + config.model.type + " has not", place,
                        "use causal, or model.type: switch_t5");
    if ((task == DataTask::kCausal) != data.uses(DataTask::kCausal))
      throw ConfigError("data.mixture can't mix causal with other tasks: their rows differ",
                        config.origins.of({"data.mixture"}),
                        "give all datasets of the mixture the task causal, or none");
  }
}

void check_stated_vocabulary(const Config& config) {
  const VocabularyConfig& vocabulary = *config.data.vocabulary;
  if (vocabulary.size == 0)
    throw ConfigError("data.vocabulary has no size", config.origins.of({"data.vocabulary"}),
                      "state how many ids there are: every id lies below it");
  const auto check = [&](const char* key, const std::optional<int64_t>& id) {
    if (id && *id >= vocabulary.size)
      throw ConfigError(fmt::format("data.vocabulary.{} = {} is not below the size {}", key, *id,
                                    vocabulary.size),
                        config.origins.of({fmt::format("data.vocabulary.{}", key),
                                           std::string("data.vocabulary.size")}),
                        fmt::format("set it to none, or to an id up to {}", vocabulary.size - 1));
  };
  check("pad", vocabulary.pad);
  check("eos", vocabulary.eos);
  check("first_sentinel", vocabulary.first_sentinel);
  if (!vocabulary.pad && !vocabulary.eos)
    throw ConfigError("data.vocabulary has neither pad nor eos",
                      config.origins.of({"data.vocabulary.pad", "data.vocabulary.eos"}),
                      "give one of them: the decoder has to begin with an id");
  if (vocabulary.first_sentinel && vocabulary.sentinels > *vocabulary.first_sentinel + 1)
    throw ConfigError(
        fmt::format("data.vocabulary.sentinels = {}, but only {} ids descend from {}",
                    vocabulary.sentinels, *vocabulary.first_sentinel + 1,
                    *vocabulary.first_sentinel),
        config.origins.of({"data.vocabulary.sentinels", "data.vocabulary.first_sentinel"}),
        "sentinels are the ids from first_sentinel downwards");
  if (config.data.task == DataTask::kSpanCorruption && !vocabulary.first_sentinel)
    throw ConfigError("span corruption needs sentinels, data.vocabulary states none",
                      config.origins.of({"data.vocabulary.first_sentinel", "data.vocabulary"}),
                      "give data.vocabulary.first_sentinel, or set data.task: text_to_text");
  if (config.model.vocabulary && *config.model.vocabulary < vocabulary.size)
    throw ConfigError(fmt::format("model.vocabulary = {} has no room for {} ids",
                                  *config.model.vocabulary, vocabulary.size),
                      config.origins.of({"model.vocabulary", "data.vocabulary.size"}),
                      "set it to auto");
}

void check_vocabulary(const Config& config) {
  if (!config.data.mixture.empty()) return;  // its datasets say which
  if (config.data.vocabulary) return check_stated_vocabulary(config);
  if (!config.data.tokenizer.model.empty()) return;
  const int64_t tokens = config.data.tokenizer.vocabulary;
  if (tokens % 128 != 0)
    throw ConfigError(
        fmt::format("data.tokenizer.vocabulary = {} is not a multiple of 128", tokens),
        config.origins.of({"data.tokenizer.vocabulary"}),
        fmt::format("use {} or {}", std::max<int64_t>(384, tokens / 128 * 128),
                    (tokens / 128 + 1) * 128));
  if (config.model.vocabulary && *config.model.vocabulary < tokens)
    throw ConfigError(fmt::format("model.vocabulary = {} has no room for the tokenizer's {} tokens",
                                  *config.model.vocabulary, tokens),
                      config.origins.of({"model.vocabulary", "data.tokenizer.vocabulary"}),
                      "set it to auto, or lower data.tokenizer.vocabulary");
}

void check_corruption(const Config& config) {
  const DataConfig& data = config.data;
  if (!data.uses(DataTask::kSpanCorruption)) return;
  const SpanCorruptionOptions options = span_corruption_options(data);
  const bool stated = data.mixture.empty() && data.vocabulary;
  const int64_t sentinels = stated ? data.vocabulary->sentinels : kSentinels;
  const int tokens = span_lengths(static_cast<int>(data.inputs_length), options).tokens;
  const int spans = noise_counts(tokens, options).spans;
  if (spans > sentinels)
    throw ConfigError(fmt::format("data.inputs_length = {} needs {} sentinels, there are {}",
                                  data.inputs_length, spans, sentinels),
                      config.origins.of({"data.inputs_length", "data.corruption.rate",
                                         "data.corruption.mean_span"}),
                      "shorten it, or set a longer data.corruption.mean_span");
  DataConfig automatic = data;
  automatic.targets_length.reset();
  const int64_t needed = resolve_targets_length(automatic);
  if (data.targets_length && *data.targets_length < needed)
    throw ConfigError(fmt::format("data.targets_length = {} would cut targets of up to {} tokens",
                                  *data.targets_length, needed),
                      config.origins.of({"data.targets_length"}), "set it to auto");
}

// Whether what a source holds is what the task and the vocabulary ask for.
void check_source_kind(const Config& config, const SourceConfig& source,
                       const std::string& element) {
  const DataConfig& data = config.data;
  const bool pairs = data.task == DataTask::kTextToText;
  const std::string format = element + ".format";
  const bool ids = source.format == SourceConfig::Format::kIds;
  if (ids != data.vocabulary.has_value())
    throw ConfigError(
        ids ? element + " holds ids, but data.vocabulary isn't stated"
            : element + " holds text, but data.vocabulary says that there is no tokenizer",
        config.origins.of({format, "data.vocabulary"}),
        ids ? "state data.vocabulary: its size, pad, eos and first_sentinel"
            : "give ids (format: ids), or take data.vocabulary out to train a tokenizer");
  if (pairs && !source.has_lines())
    throw ConfigError(element + " holds no pairs, which data.task = text_to_text learns from",
                      config.origins.of({format, "data.task"}),
                      "give lines with inputs and targets (format: jsonl or ids), or set "
                      "data.task: span_corruption");
  // A default that is written out, as in a resolved config, is no mistake.
  const auto useless = [&](const char* key, const std::string& value, const char* otherwise) {
    const std::string path = element + "." + key;
    if (value == otherwise) return;
    throw ConfigError(path + " has no effect when data.task is " + name_of(data.task),
                      config.origins.of({path}),
                      pairs ? "pairs have inputs_key and targets_key: remove it"
                            : "running text has text_key: remove it");
  };
  if (pairs) return useless("text_key", source.text_key, "auto");
  useless("inputs_key", source.inputs_key, "inputs");
  useless("targets_key", source.targets_key, "targets");
}

void check_mixture(const Config& config) {
  double sum = 0;
  for (const MixtureConfig& entry : config.data.mixture) sum += entry.weight;
  for (size_t i = 0; i < config.data.mixture.size(); ++i) {
    const MixtureConfig& entry = config.data.mixture[i];
    const std::string element = fmt::format("data.mixture[{}]", i);
    if (entry.dir.empty())
      throw ConfigError(element + " has no dir", config.origins.of({element + ".dir", element}),
                        "each entry needs the folder of a built dataset");
    if (entry.weight / sum < 1.0 / 4096)
      throw ConfigError(fmt::format("{}.weight = {} is less than 1 in 4,096 of the weights",
                                    element, entry.weight),
                        config.origins.of({element + ".weight", element}),
                        "raise it, or take the dataset out");
  }
}

void check_sources(const Config& config) {
  check_mixture(config);
  if (!config.data.mixture.empty()) return;
  for (size_t i = 0; i < config.data.sources.size(); ++i) {
    const std::string element = fmt::format("data.sources[{}]", i);
    const auto require = [&](const std::string& value, const char* key) {
      if (value.empty())
        throw ConfigError(element + " has no " + key,
                          config.origins.of({element + "." + key, element}),
                          "each source needs a label and a path");
    };
    const SourceConfig& source = config.data.sources[i];
    if (source.label_key.empty()) require(source.label, "label");
    require(source.path, "path");
    check_source_kind(config, source, element);
  }
}

void check_evaluation(const Config& config) {
  if (config.data.validation_share == 0 && config.train.evaluate_every)
    throw ConfigError(
        "train.evaluate_every is set, but data.validation_share = 0 leaves nothing to evaluate on",
        config.origins.of({"train.evaluate_every", "data.validation_share"}),
        "set evaluate_every: none, or hold out a share such as 0.02");
}

void check_batch(const Config& config) {
  const int64_t batch = config.train.batch_sequences;
  const int64_t parts = config.train.micro_batches;
  const bool automatic = !config.moe.group_sequences;
  const int64_t group = resolve_group_sequences(config);
  if (batch % group != 0)
    throw ConfigError(
        fmt::format("train.batch_sequences = {} is not a multiple of moe.group_sequences = {}",
                    batch, group),
        config.origins.of({"train.batch_sequences", "moe.group_sequences"}),
        batch < group ? fmt::format("use at least {} sequences, or smaller groups", group)
                      : fmt::format("use {} or {} sequences, or groups that divide {}",
                                    batch / group * group, (batch / group + 1) * group, batch));
  const int64_t groups = batch / group;
  if (groups % parts != 0)
    throw ConfigError(
        fmt::format("{} micro-batches can't share out {} routing group{} of {} sequences{}", parts,
                    groups, groups == 1 ? "" : "s", group, automatic ? " (auto)" : ""),
        config.origins.of({"train.micro_batches", "train.batch_sequences", "moe.group_sequences"}),
        fmt::format("use micro_batches: {}, or set {}moe.group_sequences", divisors_text(groups),
                    automatic ? "" : "another "));
}

// A place of an expert group is expert_tensor of its ranks.
void check_place(const Config& config, int64_t group) {
  const int64_t slices = config.parallel.expert_tensor;
  if (group % slices == 0) return;
  throw ConfigError(
      fmt::format("parallel.expert_tensor = {} does not divide the {} rank{} of an expert group",
                  slices, group, group == 1 ? "" : "s"),
      config.origins.of({"parallel.expert_tensor", "parallel.expert"}),
      fmt::format("use {}, or an expert group of {} ranks", divisors_text(group),
                  (group / slices + 1) * slices));
}

void check_stack(const Config& config, const StackConfig& stack) {
  const std::string path = stack.moe_path + ".layers", &name = stack.name;
  const std::string place = config.origins.of({path, stack.layers_key});
  const int64_t layers = stack.layers;
  for (const int64_t layer : stack.moe->layers.listed())
    if (layer >= layers)
      throw ConfigError(fmt::format("{} names layer {}, but the {} has {} layer{}", path, layer,
                                    name, layers, layers == 1 ? "" : "s"),
                        place,
                        fmt::format("layers are counted from 0: the last one is {}", layers - 1));
  if (!stack.moe->layers.is_none() && stack.moe->layers.of(layers).empty())
    throw ConfigError(fmt::format("{} = {} picks none of the {}'s {} layer{}", path,
                                  stack.moe->layers.text(), name, layers, layers == 1 ? "" : "s"),
                      place, "write 'layers: none' for a dense stack, or 'layers: all'");
  const std::string pyramid = stack.moe_path + ".pyramid";
  for (const LayerExpertsConfig& own : stack.moe->pyramid) {
    if (own.layer < layers && stack.moe->layers.contains(own.layer)) continue;
    throw ConfigError(fmt::format("{} names layer {}, which is no mixture", pyramid, own.layer),
                      config.origins.of({pyramid, path}),
                      "name layers that 'layers' picks, counted from 0");
  }
}

// What of expert slices can be told without knowing the job.
void check_expert_tensor(const Config& config) {
  const int64_t slices = config.parallel.expert_tensor, width = config.model.d_ff;
  if (slices == 1) return;
  const std::string key = fmt::format("parallel.expert_tensor = {}", slices);
  if (!has_experts(config))
    throw ConfigError(key + " has no effect: the model has no mixture of experts",
                      config.origins.of({"parallel.expert_tensor"}),
                      "remove it, or give some layers to the mixtures of moe");
  if (width % slices != 0)
    throw ConfigError(
        fmt::format("{} can't cut model.d_ff = {} into equal slices", key, width),
        config.origins.of({"parallel.expert_tensor", "model.d_ff"}),
        fmt::format("use a divisor of d_ff, or d_ff: {}", (width / slices + 1) * slices));
  if (config.train.reduction == TrainConfig::Reduction::kOrdered)
    throw ConfigError(
        key +
            " contradicts train.reduction = ordered: a result would depend on the slices that "
            "it is summed from",
        config.origins.of({"parallel.expert_tensor", "train.reduction"}),
        "use reduction: fast, or expert_tensor: 1");
  if (config.parallel.expert) check_place(config, *config.parallel.expert);
}

// A decoder must not learn from tokens that come later: generation doesn't have them.
void check_priority(const Config& config) {
  const StackConfig stack = stacks_of(config).back();
  const CapacityConfig& capacity = config.moe.capacity_of(*stack.moe);
  if (stack.moe->layers.is_none() || capacity.overflow == CapacityConfig::Overflow::kDropless ||
      capacity.priority != CapacityConfig::Priority::kProbability)
    return;
  const bool own = config.origins.given("moe.decoder.capacity.priority");
  throw ConfigError(
      fmt::format("moe.{}capacity.priority = probability looks at the future in the decoder: a "
                  "later token could take an earlier one's room",
                  own ? "decoder." : ""),
      config.origins.of({"moe.decoder.capacity.priority", "moe.capacity.priority"}),
      own || config.model.is_decoder_only() ? "use position or random there"
                                            : "add moe.decoder.capacity: {priority: position}");
}

void check_dispatch(const Config& config) {
  if (config.parallel.ranks_per_node && config.moe.dispatch != MoeConfig::Dispatch::kHierarchical)
    throw ConfigError("parallel.ranks_per_node has no effect when moe.dispatch is not hierarchical",
                      config.origins.of({"parallel.ranks_per_node"}),
                      "remove it, or set moe.dispatch: hierarchical");
  if (config.moe.wire_dtype == MoeConfig::WireDtype::kBFloat16 &&
      config.train.precision == TrainConfig::Precision::kBFloat16)
    throw ConfigError("moe.wire_dtype = bfloat16 has no effect when train.precision is bfloat16",
                      config.origins.of({"moe.wire_dtype", "train.precision"}),
                      "remove it: rows travel as bfloat16 already");
}

void check_load_balance(const Config& config) {
  const LoadBalanceConfig& loss = config.moe.losses.load_balance;
  if (!has_experts(config) || loss.coef == 0 || loss.scope != LoadBalanceConfig::Scope::kGlobal ||
      loss.two_pass || config.train.micro_batches == 1)
    return;
  throw ConfigError(
      fmt::format("load_balance.scope = global needs the load of all {} micro-batches before the "
                  "first one's backward pass",
                  config.train.micro_batches),
      config.origins.of({"moe.losses.load_balance.scope", "train.micro_batches"}),
      "add two_pass: true (a forward pass more), or use scope: group or micro_batches: 1");
}

void check_choice(const Config& config, const ChoiceTables& tables, const std::string& kind,
                  const Choice& choice, const std::string& path) {
  const ChoiceRow* row = tables.find(kind, choice.type);
  SWITCHYARD_CHECK(row != nullptr && choice.options != nullptr, path, " ", choice.type);
  if (row->check) row->check(*choice.options, config, path);
}

}  // namespace

void check_rules(const Config& config, const ChoiceTables& tables) {
  check_run(config);
  check_model(config);
  for (const StackConfig& stack : stacks_of(config)) check_stack(config, stack);
  check_vocabulary(config);
  check_corruption(config);
  check_sources(config);
  check_evaluation(config);
  check_batch(config);
  check_priority(config);
  check_load_balance(config);
  check_dispatch(config);
  check_expert_tensor(config);
  check_task(config);
  for (const StackConfig& stack : stacks_of(config)) {
    check_choice(config, tables, "router", stack.moe->router, stack.moe_path + ".router");
  }
  check_choice(config, tables, "optimizer", config.optimizer, "optimizer");
  check_choice(config, tables, "schedule", config.schedule, "schedule");
}

void check_layout(const Config& config, int64_t ranks) {
  const int64_t group = resolve_expert_ranks(config, ranks);
  if (ranks % group != 0) {
    const int64_t fewer = std::max(group, ranks / group * group);
    throw ConfigError(
        fmt::format("parallel.expert = {} does not divide the {} rank{} of this job", group, ranks,
                    ranks == 1 ? "" : "s"),
        config.origins.of({"parallel.expert"}),
        fmt::format("use {}, or start {} or {} ranks", divisors_text(ranks), fewer, fewer + group));
  }
  check_place(config, group);
}

void check_nodes(const Config& config, int64_t expert_group, int64_t ranks_per_node) {
  const int64_t slices = config.parallel.expert_tensor;
  if (expert_group % ranks_per_node == 0 || ranks_per_node % expert_group == 0) {
    if (ranks_per_node % slices == 0) return;
    throw ConfigError(
        fmt::format("moe.dispatch = hierarchical needs the {} ranks of parallel.expert_tensor on "
                    "one node, nodes have {}",
                    slices, ranks_per_node),
        config.origins.of({"parallel.expert_tensor", "parallel.ranks_per_node"}),
        fmt::format("use expert_tensor: {}, or dispatch: alltoall", divisors_text(ranks_per_node)));
  }
  throw ConfigError(
      fmt::format(
          "moe.dispatch = hierarchical can't cut expert groups of {} ranks into nodes of {}",
          expert_group, ranks_per_node),
      config.origins.of({"parallel.ranks_per_node", "moe.dispatch"}),
      fmt::format("use {} ranks per node, another parallel.expert, or dispatch: alltoall",
                  divisors_text(expert_group)));
}

}  // namespace switchyard
