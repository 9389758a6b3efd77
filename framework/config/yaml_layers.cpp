// One tree over another: base files, and overrides of the command line.
#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "config/suggest.h"
#include "config/yaml_node.h"

namespace switchyard {
namespace {

constexpr const char* kOverride = "--set ";  // begins the place of what an override gave

// The `type` that a typed section chooses; `fallback` where it says none.
std::string chosen_type(const YamlNode& section, const std::string& fallback) {
  const YamlNode* type = section.find("type");
  return type != nullptr && type->kind == YamlNode::Kind::kScalar ? type->text : fallback;
}

bool changes_type(const YamlNode& under, const YamlNode& over, const std::string& path,
                  const TypedSections& typed) {
  const auto section = typed.find(path);
  if (section == typed.end() || over.find("type") == nullptr) return false;
  return chosen_type(under, section->second) != chosen_type(over, section->second);
}

void lay_over_at(const std::string& path, YamlNode& under, YamlNode over,
                 const TypedSections& typed) {
  const bool both_sections =
      under.kind == YamlNode::Kind::kMap && over.kind == YamlNode::Kind::kMap;
  if (under.kind == YamlNode::Kind::kMap && over.kind == YamlNode::Kind::kNull) return;
  if (!both_sections || changes_type(under, over, path, typed)) {
    under = std::move(over);
    return;
  }
  under.where = over.where;
  under.key_where = over.key_where;
  for (YamlNode& item : over.items) {
    const std::string below = path.empty() ? item.key : path + "." + item.key;
    if (YamlNode* known = under.find(item.key)) {
      lay_over_at(below, *known, std::move(item), typed);
    } else {
      under.items.push_back(std::move(item));
    }
  }
}

[[noreturn]] void refuse_part(const std::string& where) {
  throw ConfigError("an override's key has an empty part", where,
                    "write it like --set train.steps=100");
}

}  // namespace

void lay_over(YamlNode& under, YamlNode over, const TypedSections& typed) {
  lay_over_at("", under, std::move(over), typed);
}

void apply_override(YamlNode& root, const std::string& assignment, const TypedSections& typed) {
  const std::string where = kOverride + printable(assignment);
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    throw ConfigError("an override needs a key and a value", where,
                      "write it like --set train.steps=100");
  YamlNode value = parse_yaml(assignment.substr(equals + 1), where, where);

  YamlNode *section = nullptr, *node = &root;
  std::string section_path;
  for (size_t begin = 0; begin <= equals;) {
    const size_t end = std::min(assignment.find('.', begin), equals);
    const std::string key = assignment.substr(begin, end - begin);
    if (key.empty()) refuse_part(where);
    section_path = assignment.substr(0, begin == 0 ? 0 : begin - 1);
    if (node->kind == YamlNode::Kind::kNull) node->kind = YamlNode::Kind::kMap;
    if (node->kind != YamlNode::Kind::kMap)
      throw ConfigError(
          "'" + printable(section_path) + "' is no section, so it has no '" + printable(key) + "'",
          where, "set it whole; what the file gives stands at " + node->where);
    section = node;
    node = section->find(key);
    if (node == nullptr) {
      node = &section->items.emplace_back();
      node->key = key;
      node->key_where = node->where = where;
    }
    begin = end + 1;
  }
  const auto known = typed.find(section_path);
  const bool new_type = known != typed.end() && node->key == "type" &&
                        value.kind == YamlNode::Kind::kScalar &&
                        chosen_type(*section, known->second) != value.text;
  value.key = node->key;
  value.key_where = where;
  *node = std::move(value);
  if (new_type)
    std::erase_if(section->items, [](const YamlNode& item) {
      return item.key != "type" && item.key_where.rfind(kOverride, 0) != 0;
    });
}

}  // namespace switchyard
