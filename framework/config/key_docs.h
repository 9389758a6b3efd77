// What describe() says about every key, as data: for `help`, and whatever documents the config.
#pragma once

#include <string>
#include <vector>

#include "config/choice.h"
#include "config/yaml_node.h"

namespace switchyard {

struct KeyDoc {
  std::string path;  // moe.capacity.train_factor; below a list: data.sources[].path
  std::string meaning;
  bool section = false;       // then what follows is empty
  std::string type;           // "integer or auto", "one of ceil, floor"
  std::string default_value;  // as YAML writes it
  std::string unit;
  std::string range;               // "0.1 to 64"
  std::string only_with;           // an option of a choice: "type: switch"
  std::string inert_when;          // "'tokens' is set"
  std::vector<std::string> names;  // of a choice's type: "switch: argmax of softmax"

  bool operator==(const KeyDoc&) const = default;
};

// Every section and key, in the order in which they are described. Options of choices appear once
// for each type that has them, or once in all and first if all types have them alike.
std::vector<KeyDoc> document_keys(const ChoiceTables& tables);

// The paths of document_keys, each once.
std::vector<std::string> known_paths(const std::vector<KeyDoc>& docs);

// The sections that are a choice, with their default type.
TypedSections typed_sections(const std::vector<KeyDoc>& docs);

// What `help KEY` prints: the key, or the section with its keys. Throws ConfigError with a
// suggestion if there is no such key.
std::string help_text(const std::string& path, const ChoiceTables& tables);

// All keys as Markdown, a table for each section: what docs/config.md holds.
std::string key_reference(const ChoiceTables& tables);

}  // namespace switchyard
