// Directories of models for tests: those of tests/golden, changed ones, and ones of ours.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backends/reference/reference_kernels.h"
#include "checkpoint/checkpoint.h"
#include "conversion/convert.h"
#include "registry/choices.h"
#include "safetensors/safetensors.h"
#include "support/batch_rows.h"
#include "support/configured_model.h"
#include "support/golden.h"
#include "support/temporary_directory.h"

namespace switchyard::test {

using Path = std::filesystem::path;

inline std::string read_text(const Path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A directory of Hugging Face in memory, to be changed and written elsewhere.
struct ForeignModel {
  struct Tensor {
    StoredType type = StoredType::kF32;
    std::vector<uint64_t> shape;
    std::vector<std::byte> bytes;
    bool operator==(const Tensor&) const = default;
  };
  nlohmann::json config;
  std::map<std::string, Tensor> tensors;

  static ForeignModel read(const Path& path) {
    ForeignModel model;
    model.config = nlohmann::json::parse(read_text(path / "config.json"));
    const SafetensorsSet set = SafetensorsSet::open(path);
    for (const std::string& name : set.names()) {
      const SafetensorsFile& file = set.file_of(name);
      const auto data = file.data(name);
      model.tensors[name] = {
          file.tensor(name).type, file.tensor(name).shape, {data.begin(), data.end()}};
    }
    return model;
  }

  void write(const Path& path) const {
    std::filesystem::create_directories(path);
    std::ofstream(path / "config.json") << config.dump();
    std::vector<TensorToWrite> list;
    for (const auto& [name, tensor] : tensors) {
      list.push_back({name, tensor.type, tensor.shape, tensor.bytes});
    }
    write_safetensors(path / "model.safetensors", list);
  }
};

inline Conversion convert_quietly(const Path& from, const Path& to, ModelFormat format,
                                  ConvertOptions options = {}) {
  options.from = from;
  options.to = to;
  options.format = format;
  return convert(options, choice_tables(), initialisation_of, FileSystem::real());
}

inline ModelSource open_foreign(const Path& path, const std::vector<std::string>& overrides = {}) {
  return open_hugging_face(path, overrides, choice_tables(), FileSystem::real());
}

inline Config parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_config(yaml, "test.yaml", overrides, choice_tables());
}

// A model of the config on the reference backend, freshly initialised.
inline ConfiguredModel make_reference_model(const Config& config, int64_t vocabulary) {
  return ConfiguredModel(make_reference_kernels(), config, vocabulary);
}

// Every weight's bytes by its global name.
inline std::map<std::string, std::vector<std::byte>> bytes_of(ConfiguredModel& model) {
  std::map<std::string, std::vector<std::byte>> all;
  const auto add = [&](const std::string& name, TensorView view) {
    const auto* data = static_cast<const std::byte*>(view.raw());
    all[name] = {data, data + view.size_bytes()};
  };
  for (const Weight* weight : model.model().weights()) {
    if (!weight->is_expert()) {
      add(weight->name(), weight->master());
      continue;
    }
    for (int64_t e = 0; e < weight->experts().count; ++e) {
      add(weight->name_of_expert(e), weight->master().rows(e, e + 1));
    }
  }
  return all;
}

// A checkpoint of the model after `step` steps below `directory`.
inline Path save(ConfiguredModel& model, const Path& directory, int64_t step = 3) {
  CheckpointState state{.step = step, .config_text = to_yaml(model.config())};
  for (const Weight* weight : model.model().weights()) state.weights.push_back(weight);
  return save_checkpoint(directory, state, model.groups(), {.run_id = "test"});
}

// The message of the error that the action ends with, where and advice included; empty for none.
template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Ids of a batch, [count, length]; 0 in a mask hides padding.
struct Ids {
  int64_t count = 0, length = 0;
  std::vector<int32_t> ids, mask = {};
};

// Logits of the batch, each sequence a routing group.
//   encoder  without ids in decoder-only models
inline std::vector<float> logits_of(ConfiguredModel& model, const Ids& encoder,
                                    const Ids& decoder) {
  const auto rows_of = [&](const Ids& ids) {
    const std::vector<uint8_t> real(ids.mask.begin(), ids.mask.end());
    const GlobalBatch batch{
        .sequences = ids.count, .length = ids.length, .real = real, .ids = ids.ids};
    return std::make_unique<BatchRows>(batch, model.memory());
  };
  const auto decoder_rows = rows_of(decoder);
  std::unique_ptr<BatchRows> encoder_rows;
  ModelBatch batch{.decoder = decoder_rows->rows()};
  if (!encoder.ids.empty()) {
    encoder_rows = rows_of(encoder);
    batch.encoder = encoder_rows->rows();
    batch.decoder.segment = TensorView();
  }
  LayerContext ctx = model.context();
  std::vector<float> logits = read_back_as<float>(ctx, model.model().logits(ctx, batch));
  model.release();
  return logits;
}

// max|difference| / max|reference|
inline double difference(const std::vector<float>& actual, const std::vector<double>& reference) {
  EXPECT_EQ(actual.size(), reference.size());
  double most = 0, largest = 0;
  for (size_t i = 0; i < std::min(actual.size(), reference.size()); ++i) {
    most = std::max(most, std::abs(actual[i] - reference[i]));
    largest = std::max(largest, std::abs(reference[i]));
  }
  return most / largest;
}

}  // namespace switchyard::test
