#include "conversion/model_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>

#include "base/check.h"
#include "base/errors.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/placement.h"
#include "conversion/model_tensors.h"
#include "conversion/read_config.h"
#include "conversion/tensor_match.h"
#include "data/tokenizer.h"
#include "safetensors/element_stream.h"
#include "safetensors/safetensors.h"

namespace switchyard {

namespace {

using Path = std::filesystem::path;

constexpr const char* kConfigFile = "config.json";

std::vector<std::string> listed(const Path& path, FileSystem& files) {
  std::vector<std::string> names;
  if (const int error = files.list(path, names)) {
    throw_file_error(error, "cannot read the directory", path);
  }
  return names;
}

TokenizerFile tokenizer_at(const Path& path) {
  TokenizerFile file{.path = path};
  try {
    file.ids = Tokenizer::load(path).ids();
  } catch (const InputError&) {  // another program's: it can only be carried along
  }
  return file;
}

TokenizerFile find_tokenizer(const Path& path, const std::vector<std::string>& names) {
  for (const char* const name : {"spiece.model", "tokenizer.model"}) {
    if (std::ranges::binary_search(names, name)) return tokenizer_at(path / name);
  }
  return {};
}

// Where its errors say what config.json can't be.
Config make_config(const std::string& yaml, const std::string& where,
                   const std::vector<std::string>& overrides, const ChoiceTables& tables) {
  try {
    return parse_config(yaml, where, overrides, tables);
  } catch (const ConfigError& error) {
    if (error.where().find("--set") != std::string::npos) throw;
    throw CheckpointError("the model can't be expressed: " + error.summary(), where,
                          error.advice());
  }
}

// The last part of the path, also of one that ends in a separator.
std::string name_at(const Path& path) {
  const Path named = path.has_filename() ? path : path.parent_path();
  return named.filename().string();
}

}  // namespace

ModelSource::ModelSource() = default;
ModelSource::~ModelSource() = default;
ModelSource::ModelSource(ModelSource&&) noexcept = default;
ModelSource& ModelSource::operator=(ModelSource&&) noexcept = default;

bool is_hugging_face(const Path& path, FileSystem& files) {
  std::vector<std::string> names;
  if (files.list(path, names) != 0) return false;
  return std::ranges::binary_search(names, kConfigFile) &&
         !std::ranges::binary_search(names, kManifestName);
}

ModelSource open_hugging_face(const Path& path, const std::vector<std::string>& overrides,
                              const ChoiceTables& tables, FileSystem& files) {
  const std::vector<std::string> names = listed(path, files);
  const Path config = path / kConfigFile;
  FileMapping text(files, config, Links::kFollow);
  ForeignConfig given = ForeignConfig::parse(
      {reinterpret_cast<const char*>(text.data()), text.size_bytes()}, config.string());

  ModelSource source;
  source.tokenizer = find_tokenizer(path, names);
  ReadConfig read = read_foreign_config(given, name_at(path), source.tokenizer);
  source.description = fmt::format("Hugging Face {}", name_of(read.dialect.family));
  source.notes = std::move(read.notes);
  source.config = make_config(read.yaml, config.string(), overrides, tables);
  source.vocabulary = source.config.model.vocabulary.value_or(0);
  const auto has = [&](const char* name) { return std::ranges::binary_search(names, name); };
  if (!has("model.safetensors") && !has("model.safetensors.index.json")) {
    const bool unlisted = std::ranges::any_of(
        names, [](const std::string& name) { return name.ends_with(".safetensors"); });
    throw CheckpointError("there is no model.safetensors, nor an index of several", path.string(),
                          unlisted ? "fetch model.safetensors.index.json: it says what is where"
                          : has("pytorch_model.bin") || has("pytorch_model.bin.index.json")
                              ? "load it in transformers, and save_pretrained with safetensors"
                              : "fetch the weights into the directory of config.json");
  }
  source.set = std::make_unique<SafetensorsSet>(SafetensorsSet::open(path, "model", files));
  source.stored_tensors = source.set->names().size();
  Matched matched = match_tensors(read.dialect, model_tensors(source.config, source.vocabulary),
                                  *source.set, path.string());
  source.tensors = std::move(matched.tensors);
  source.left_out = std::move(matched.left_out);
  return source;
}

int64_t vocabulary_of(const Checkpoint& checkpoint, const Config& config) {
  const char* name = config.model.is_decoder_only() ? "embedding" : "shared_embedding";
  const std::vector<ManifestTensor>& tensors = checkpoint.manifest().tensors;
  const auto found = std::ranges::find(tensors, name, &ManifestTensor::name);
  if (found == tensors.end() || found->shape.size() != 2) {
    throw CheckpointError(fmt::format("the checkpoint has no table {}: it isn't one of a {}", name,
                                      config.model.type),
                          checkpoint.path().string(), "name the config that it was trained with");
  }
  return static_cast<int64_t>(found->shape[0]);
}

ModelSource open_checkpoint(const Path& path, const std::vector<std::string>& overrides,
                            const ChoiceTables& tables, FileSystem& files) {
  ModelSource source;
  source.checkpoint = std::make_unique<Checkpoint>(Checkpoint::open(path, files));
  const Checkpoint& checkpoint = *source.checkpoint;
  const Manifest& manifest = checkpoint.manifest();
  source.description = fmt::format("checkpoint after {} steps", manifest.step);
  source.step = manifest.step;
  source.tokens_seen = manifest.tokens_seen;
  source.config = parse_config(checkpoint.read_file("config.yaml"), (path / "config.yaml").string(),
                               overrides, tables);
  source.vocabulary = vocabulary_of(checkpoint, source.config);
  if (manifest.file(kCheckpointTokenizer) != nullptr) {
    checkpoint.read_file(kCheckpointTokenizer);  // its hashes
    source.tokenizer = tokenizer_at(path / kCheckpointTokenizer);
  }
  size_t optimizer = 0;
  for (const ManifestTensor& tensor : manifest.tensors) {
    if (tensor.part == TensorPart::kOptimizer) {
      ++optimizer;
      continue;
    }
    source.tensors.push_back({.name = tensor.name,
                              .type = tensor.type,
                              .shape = tensor.shape,
                              .origin = tensor.name,
                              .read = [&checkpoint, name = tensor.name](const TakeBytes& take) {
                                checkpoint.read_tensor(name, take);
                              }});
  }
  source.stored_tensors = source.tensors.size();
  if (optimizer > 0) {
    source.notes.push_back(
        fmt::format("{} tensors of the optimizer's state are left behind", optimizer));
  }
  return source;
}

namespace {

// The shape of the whole tensor, of one expert where there are several.
std::vector<uint64_t> shape_of_one(const Weight& weight) {
  std::vector<uint64_t> shape = stored_shape(weight.whole_shape());
  if (weight.is_expert()) shape.erase(shape.begin());
  return shape;
}

//   expert  its global number; it may be another rank's
std::string name_of_expert(const Weight& weight, int64_t expert) {
  std::string name = weight.name();
  return name.replace(name.find('*'), 1, std::to_string(expert));
}

void fill(const SourceTensor& source, const Weight& weight, TensorView target) {
  Placement placement(weight.runs(), target, weight.memory());
  ElementStream stream(source.type, stored_type(weight.dtype()), source.name,
                       [&](std::span<const std::byte> bytes) { placement.put(bytes); });
  source.read([&](std::span<const std::byte> bytes) { stream.add(bytes); });
  stream.finish();
}

}  // namespace

void fill_weights(const ModelSource& source, const std::vector<Weight*>& weights) {
  std::unordered_map<std::string, const SourceTensor*> left;
  for (const SourceTensor& tensor : source.tensors) left[tensor.name] = &tensor;
  const auto take = [&](const std::string& name, const Weight& weight) -> const SourceTensor& {
    const auto found = left.find(name);
    if (found == left.end()) {
      throw CheckpointError(fmt::format("no tensor \"{}\"", name), source.description);
    }
    const SourceTensor& tensor = *found->second;
    if (tensor.shape != shape_of_one(weight)) {
      throw CheckpointError(
          fmt::format("tensor \"{}\" is [{}], the model's [{}]", name,
                      fmt::join(tensor.shape, ", "), fmt::join(shape_of_one(weight), ", ")),
          source.description);
    }
    left.erase(found);
    return tensor;
  };
  for (Weight* weight : weights) {
    if (!weight->is_expert()) {
      fill(take(weight->name(), *weight), *weight, weight->master());
    } else {
      const ExpertRange& range = weight->experts();
      for (int64_t e = 0; e < range.total; ++e) {
        const int64_t local = e - range.first;
        const SourceTensor& tensor = take(name_of_expert(*weight, e), *weight);
        if (local < 0 || local >= range.count) continue;
        fill(tensor, *weight, weight->master().rows(local, local + 1));
      }
    }
    weight->master_changed();
  }
  if (left.empty()) return;
  throw CheckpointError(fmt::format("{} tensors that the model does not have, such as {}",
                                    left.size(), left.begin()->first),
                        source.description);
}

}  // namespace switchyard
