// The whole configuration: read once, then plain values. Nothing here opens data or knows a device.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "config/data_config.h"
#include "config/model_config.h"
#include "config/moe_config.h"
#include "config/train_config.h"

namespace switchyard {

// Where each given key stands: "configs/a.yaml:14:5" or "--set train.steps=10". Keys at their
// defaults aren't in it.
class Origins {
 public:
  void record(const std::string& path, std::string where) { where_[path] = std::move(where); }
  bool given(const std::string& path) const { return where_.count(path) != 0; }
  // The place of the first of `paths` that was given; empty if none was.
  std::string of(std::initializer_list<std::string> paths) const;
  const std::map<std::string, std::string>& all() const { return where_; }

  // Says that keys which section `path` leaves out are as those of `start`.
  void record_start(const std::string& path, std::string start) {
    starts_[path] = std::move(start);
  }
  // For people: the place of a key, or "default", or "as moe.capacity.train_factor".
  std::string text(const std::string& path) const;

 private:
  std::map<std::string, std::string> where_, starts_;
};

// The key under which a config names the files that it goes on from.
inline constexpr const char* kBaseKey = "base";

struct Config {
  std::string name;  // empty in the file: the file's name without .yaml
  int64_t seed = 1;
  std::string device = "auto";  // checked by registry/, which knows what was built
  ModelConfig model;
  MoeConfig moe;
  DataConfig data;
  TrainConfig train;
  CheckpointConfig checkpoint;
  Choice optimizer{"adamw"};
  Choice schedule{"linear_warmup_cosine"};
  ParallelConfig parallel;
  RunConfig run;

  Origins origins;  // not a key

  void describe(Fields& f);
};

// Reads the file over its base files (base_files.h), lays the overrides ("train.steps=10",
// YAML-typed) over both, and checks all rules. Throws ConfigError with the place and what to do.
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                   const ChoiceTables& tables);

// As load_config, from text; `file` names it in errors and gives the default of `name`.
Config parse_config(const std::string& text, const std::string& file,
                    const std::vector<std::string>& overrides, const ChoiceTables& tables);

// The resolved configuration with every key, as YAML that load_config reads back to the same
// values.
std::string to_yaml(const Config& config);
// The same with each value's origin as a comment behind it.
std::string to_yaml_with_origins(const Config& config);

}  // namespace switchyard
