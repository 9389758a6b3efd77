// From config.json to a config of ours: what each family's keys mean.
// Included by .cpp files of conversion/ only.
#pragma once

#include <string>
#include <vector>

#include "conversion/foreign_config.h"
#include "conversion/model_source.h"
#include "conversion/tensor_names.h"

namespace switchyard {

struct ReadConfig {
  Dialect dialect = {};
  std::string yaml = {};  // what differs from our defaults
  std::vector<std::string> notes = {};
};

// Throws CheckpointError naming the key that can't be expressed.
//   name       of the config: its `name`
//   tokenizer  beside the weights
ReadConfig read_foreign_config(ForeignConfig& given, const std::string& name,
                               const TokenizerFile& tokenizer);

// The same of one family; `notes` and the data section are the caller's.
ReadConfig read_switch_transformers(ForeignConfig& given);
ReadConfig read_t5(ForeignConfig& given);
ReadConfig read_decoder(Family family, ForeignConfig& given);

// Tokens of a training row, where the model says how far its positions go.
inline constexpr int64_t kUsualLength = 2048;

// A scalar of YAML: the shortest digits that give the number back, text in quotes.
std::string yaml_number(double number);
std::string yaml_text(const std::string& text);

}  // namespace switchyard
