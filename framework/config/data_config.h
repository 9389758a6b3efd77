// `data:` the text, how it is cut into training examples, and its tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

class Fields;

struct CorruptionConfig {
  double rate = 0.15;
  double mean_span = 3.0;

  void describe(Fields& f);
};

struct TokenizerConfig {
  int64_t vocabulary = 4096;
  int64_t training_lines = 200'000;
  double character_coverage = 0.9995;

  void describe(Fields& f);
};

struct SourceConfig {
  enum class Format { kText, kGzip, kMan };

  std::string label;
  std::string path;
  Format format = Format::kText;

  void describe(Fields& f);
};

struct DataConfig {
  std::string dir = "data";
  int64_t inputs_length = 128;
  std::optional<int64_t> targets_length;  // empty: see resolve_targets_length in config/resolve.h
  CorruptionConfig corruption;
  TokenizerConfig tokenizer;
  double validation_share = 0.02;
  std::vector<SourceConfig> sources;

  void describe(Fields& f);
};

}  // namespace switchyard
