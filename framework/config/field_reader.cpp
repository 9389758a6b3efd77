#include "config/field_reader.h"

#include <algorithm>

#include "base/errors.h"
#include "config/moved_keys.h"
#include "config/scalar.h"
#include "config/suggest.h"

namespace switchyard {

FieldReader::FieldReader(const YamlNode& root, const ChoiceTables& tables,
                         const std::vector<std::string>& known_paths)
    : root_(root), tables_(tables), known_paths_(known_paths) {}

// The node of a key of the current section, noted as known; null where the file doesn't give it.
const YamlNode* FieldReader::take(const Field& field) {
  Level& level = levels_.back();
  level.keys.push_back(field.key);
  const YamlNode* node = level.node == nullptr ? nullptr : level.node->find(field.key);
  if (node != nullptr) origins_.record(field.path, node->where);
  return node;
}

void FieldReader::visit(const Field& field, const ValueRef& value) {
  if (const YamlNode* node = take(field)) read_value(*node, field, value);
}

void FieldReader::enter_node(const YamlNode* node, const std::string& path) {
  // A section whose keys are all commented out is an empty one.
  const bool section =
      node == nullptr || node->kind == YamlNode::Kind::kMap || node->kind == YamlNode::Kind::kNull;
  if (!section)
    throw ConfigError(path + " is a section, not " +
                          (node->kind == YamlNode::Kind::kSequence ? "a list" : "a value"),
                      node->where, "put its keys on the lines below, indented");
  levels_.push_back({node, {}});
}

void FieldReader::enter_section(const Field& field) { enter_node(take(field), field.path); }

bool FieldReader::enter_optional(const Field& field, bool, const std::string& start_path) {
  const YamlNode* node = take(field);
  if (node == nullptr) return false;
  if (!start_path.empty()) origins_.record_start(field.path, start_path);
  enter_node(node, field.path);
  return true;
}

std::optional<size_t> FieldReader::enter_list(const Field& field, size_t) {
  const YamlNode* node = take(field);
  if (node != nullptr && node->kind != YamlNode::Kind::kSequence)
    throw ConfigError(field.path + " is a list of sections", node->where,
                      "begin each of them with '- ' on its own line");
  levels_.push_back({node, {}, /*is_list=*/true});
  if (node == nullptr) return std::nullopt;
  return node->items.size();
}

void FieldReader::enter_element(size_t index) {
  const YamlNode* list = levels_.back().node;
  enter_node(list == nullptr ? nullptr : &list->items[index], path());
  if (list != nullptr) origins_.record(path(), list->items[index].where);
}

void FieldReader::visit_choice(const Field& field, const std::string& kind, Choice& value) {
  enter_node(take(field), field.path);
  push_path(field.key);
  Field type = field;
  type.key = "type";
  type.path = path() + ".type";
  std::string wanted = value.type;
  visit(type, &wanted);
  if (wanted != value.type || value.options == nullptr) {
    const ChoiceRow* row = tables_.find(kind, wanted);
    SWITCHYARD_CHECK(row != nullptr, "the default '", wanted, "' is not in the table '", kind, "'");
    value = Choice(wanted, row->make());
  }
  value.options->describe(*this);
  leave();
  pop_path();
}

void FieldReader::visit_base_files(const Field& field) {
  if (const YamlNode* node = take(field))
    throw ConfigError("'" + field.key + "' stands in a file only", node->key_where,
                      "name the file in the config, or set its keys one by one");
}

void FieldReader::inert_if(bool condition, std::initializer_list<const char*> keys,
                           const std::string& when) {
  const YamlNode* node = levels_.back().node;
  if (!condition || node == nullptr) return;
  for (const char* key : keys) {
    const YamlNode* given = node->find(key);
    if (given == nullptr) continue;
    const std::string prefix = path().empty() ? "" : path() + ".";
    throw ConfigError(prefix + key + " has no effect when " + when, given->key_where,
                      std::string("remove '") + key + "', or change the other");
  }
}

void FieldReader::leave() {
  const Level& level = levels_.back();
  if (level.node != nullptr && !level.is_list)
    for (const YamlNode& entry : level.node->items)
      if (std::find(level.keys.begin(), level.keys.end(), entry.key) == level.keys.end())
        refuse_unknown(entry, level);
  levels_.pop_back();
}

void FieldReader::refuse_unknown(const YamlNode& entry, const Level& level) const {
  const std::string prefix = path().empty() ? "" : path() + ".";
  std::string advice;
  const size_t dot = entry.key.find('.');
  if (dot != std::string::npos) {
    const std::string first = printable(entry.key.substr(0, dot));
    advice = "dots are for --set: write '" + first + ":' and its keys on the lines below, indented";
  } else if (const std::string now = moved_to(prefix + entry.key); !now.empty()) {
    advice = "it has moved: did you mean '" + now + "'?";
  } else if (std::find(known_paths_.begin(), known_paths_.end(), prefix + entry.key) !=
             known_paths_.end()) {
    advice = "it is an option of another 'type' of " + path();
  } else if (const std::string near = likely_key(entry.key, path(), level.keys, known_paths_);
             !near.empty()) {
    advice = "did you mean '" + near + "'?";
  }
  if (advice.empty())
    advice = (path().empty() ? "the config's keys: " : "its keys: ") + shortened_list(level.keys);
  throw ConfigError("unknown key '" + prefix + printable(entry.key) + "'", entry.key_where, advice);
}

std::vector<std::string> FieldReader::names_in(const std::string& kind) const {
  std::vector<std::string> names;
  for (const ChoiceRow& row : tables_.rows(kind)) names.push_back(row.name);
  return names;
}

}  // namespace switchyard
