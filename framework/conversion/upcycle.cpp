#include "conversion/upcycle.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <unordered_map>

#include "base/errors.h"
#include "config/resolve.h"
#include "conversion/model_tensors.h"
#include "moe/top_k_router.h"
#include "safetensors/element_stream.h"

namespace switchyard {

namespace {

constexpr const char* kAdvice =
    "give experts=N and, if need be, layers=all, router=switch or top_k=K, with commas between";

int64_t number_of(const std::string& key, const std::string& value) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error == std::errc() && end == value.data() + value.size()) return number;
  throw ConfigError(fmt::format("--upcycle {}={} is no whole number", key, value), "", kAdvice);
}

void set_option(UpcycleOptions& options, const std::string& part) {
  const size_t equals = part.find('=');
  const std::string key = part.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
  if (value.empty()) {
    throw ConfigError(fmt::format("--upcycle: '{}' is no KEY=VALUE", part), "", kAdvice);
  }
  if (key == "experts") {
    options.experts = number_of(key, value);
  } else if (key == "top_k") {
    options.top_k = number_of(key, value);
  } else if (key == "layers") {
    options.layers = value;
  } else if (key == "router") {
    options.router = value;
  } else {
    throw ConfigError(fmt::format("--upcycle has no option '{}'", key), "", kAdvice);
  }
}

// A tensor of a mixture, and the dense one that it is copied from:
// "decoder.block.3.moe.expert.5.wi" and "decoder.block.3.ffn.wi". Empty for any other.
std::string dense_name(const std::string& name) {
  constexpr std::string_view kExpert = ".moe.expert.";
  const size_t expert = name.find(kExpert);
  if (expert == std::string::npos) return "";
  return name.substr(0, expert) + ".ffn" + name.substr(name.find('.', expert + kExpert.size()));
}

// A gate's first values, and a balance bias of zeros.
SourceTensor fresh(const TensorSpec& spec, const Initialisation& start, uint64_t seed,
                   StoredType type) {
  SourceTensor tensor{.name = spec.name, .type = type, .shape = spec.shape};
  tensor.origin = "(none)";
  tensor.note = "fresh";
  tensor.read = [spec, start, seed, type](const TakeBytes& take) {
    Weight weight(spec.name, WeightRole::kRouter, DType::kFloat32,
                  Shape(std::vector<int64_t>(spec.shape.begin(), spec.shape.end())),
                  HostMemory::instance());
    const bool is_gate = spec.shape.size() == 2;
    initialise(weight,
               is_gate ? start.matrix(static_cast<int64_t>(spec.shape[1])) : Initial::constant(0),
               seed);
    ElementStream stream(StoredType::kF32, type, spec.name, take);
    stream.add(
        {static_cast<const std::byte*>(weight.master().raw()), weight.master().size_bytes()});
    stream.finish();
  };
  return tensor;
}

}  // namespace

UpcycleOptions parse_upcycle(const std::string& text) {
  UpcycleOptions options;
  std::string part;
  int depth = 0;
  for (const char c : text + ',') {
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (c != ',' || depth != 0) {
      part += c;
      continue;
    }
    set_option(options, part);
    part.clear();
  }
  if (!part.empty()) throw ConfigError("--upcycle: a bracket is left open", "", kAdvice);
  return options;
}

Config upcycled_config(const ModelSource& dense, const UpcycleOptions& options,
                       const std::vector<std::string>& overrides, const ChoiceTables& tables) {
  if (has_experts(dense.config)) {
    throw CheckpointError("the model has mixtures of experts already", dense.description,
                          "--upcycle is for dense models: leave it out");
  }
  const bool alone = dense.config.model.is_decoder_only();
  const std::string layers = !options.layers.empty() ? options.layers
                             : alone                 ? "all"
                                                     : "{every: 2}";
  const std::string router = options.router == "top_k"
                                 ? fmt::format("{{type: top_k, top_k: {}}}", options.top_k)
                                 : fmt::format("{{type: {}}}", options.router);
  std::vector<std::string> set = {fmt::format("moe.experts={}", options.experts),
                                  "moe.capacity={overflow: dropless}"};
  for (const char* const stack :
       alone ? std::vector<const char*>{""} : std::vector<const char*>{"encoder.", "decoder."}) {
    set.push_back(fmt::format("moe.{}layers={}", stack, layers));
    set.push_back(fmt::format("moe.{}router={}", stack, router));
  }
  set.insert(set.end(), overrides.begin(), overrides.end());
  return parse_config(to_yaml(dense.config), "--upcycle", set, tables);
}

std::vector<SourceTensor> upcycled_tensors(const ModelSource& dense, const Config& config,
                                           const Initialisation& start) {
  std::unordered_map<std::string, const SourceTensor*> sources;
  for (const SourceTensor& tensor : dense.tensors) sources[tensor.name] = &tensor;
  std::vector<SourceTensor> tensors;
  for (const TensorSpec& spec : model_tensors(config, dense.vocabulary)) {
    const std::string network = dense_name(spec.name);
    const auto found = sources.find(network.empty() ? spec.name : network);
    if (found != sources.end()) {
      tensors.push_back(*found->second);
      tensors.back().name = spec.name;
      if (!network.empty()) tensors.back().note = "copied";
      continue;
    }
    if (spec.name.find(".moe.router") == std::string::npos) {
      throw CheckpointError(fmt::format("no tensor \"{}\"", spec.name), dense.description);
    }
    // Of the type of the network that becomes the experts.
    const auto beside = sources.find(spec.name.substr(0, spec.name.find(".moe.")) + ".ffn.wi");
    tensors.push_back(fresh(spec, start, static_cast<uint64_t>(config.seed),
                            beside == sources.end() ? StoredType::kF32 : beside->second->type));
  }
  return tensors;
}

bool keeps_the_function(const Config& config) {
  for (const StackConfig& stack : stacks_of(config)) {
    if (stack.moe->layers.is_none()) continue;
    const Choice& router = stack.moe->router;
    const bool sums_to_1 = router.type == "hash" || router.type == "gshard" ||
                           (router.type == "top_k" && router.as<TopKRouterOptions>().normalize &&
                            router.as<TopKRouterOptions>().scale == 1.0);
    const auto overflow = config.moe.capacity_of(*stack.moe).overflow;
    if (!sums_to_1 || overflow != CapacityConfig::Overflow::kDropless) return false;
  }
  return true;
}

}  // namespace switchyard
