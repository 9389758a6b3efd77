// `data:` the text, how it is cut into training examples, and its tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

class Fields;

// What a model learns from a dataset.
enum class DataTask { kSpanCorruption, kTextToText, kCausal };
const char* name_of(DataTask task);  // "span_corruption"

struct CorruptionConfig {
  double rate = 0.15;
  double mean_span = 3.0;

  void describe(Fields& f);
};

// Of a dataset that is made from ids.
struct VocabularyConfig {
  int64_t size = 0;  // must be stated
  std::optional<int64_t> pad = 0;
  std::optional<int64_t> eos = 1;
  std::optional<int64_t> first_sentinel;
  int64_t sentinels = 100;

  void describe(Fields& f);
};

struct TokenizerConfig {
  std::string model;  // empty: one is trained
  int64_t vocabulary = 4096;
  int64_t training_lines = 200'000;
  double character_coverage = 0.9995;

  void describe(Fields& f);
};

struct SourceConfig {
  enum class Format { kText, kGzip, kMan, kJsonl, kIds };

  std::string label;
  std::string path;
  Format format = Format::kText;
  std::string text_key = "auto";
  std::string inputs_key = "inputs", targets_key = "targets";
  std::string label_key;  // empty: `label` for all

  bool has_lines() const { return format == Format::kJsonl || format == Format::kIds; }

  void describe(Fields& f);
};

struct MixtureConfig {
  std::string dir;
  double weight = 1.0;
  DataTask task = DataTask::kSpanCorruption;

  void describe(Fields& f);
};

struct DataConfig {
  std::string dir = "data";
  DataTask task = DataTask::kSpanCorruption;
  int64_t inputs_length = 128;
  int64_t length = 256;                   // of a row of the causal task
  std::optional<int64_t> targets_length;  // empty: see resolve_targets_length in config/resolve.h
  bool packing = false;
  CorruptionConfig corruption;
  std::optional<VocabularyConfig> vocabulary;  // empty: text, and a tokenizer of its own
  TokenizerConfig tokenizer;
  double validation_share = 0.02;
  std::vector<SourceConfig> sources;
  std::vector<MixtureConfig> mixture;  // empty: `dir` alone

  // Whether a dataset of the run is read under the task.
  bool uses(DataTask task) const;

  void describe(Fields& f);
};

}  // namespace switchyard
