#include "config/field_writer.h"

#include <algorithm>

#include "config/config.h"
#include "config/scalar.h"

namespace switchyard {

YamlNode FieldWriter::new_map(const std::string& key) {
  YamlNode node;
  node.kind = YamlNode::Kind::kMap;
  node.key = key;
  return node;
}

void FieldWriter::visit(const Field& field, const ValueRef& value) {
  YamlNode node = value_node(field, value);
  node.key = field.key;
  levels_.back().items.push_back(std::move(node));
}

void FieldWriter::enter_section(const Field& field) { levels_.push_back(new_map(field.key)); }

bool FieldWriter::enter_optional(const Field& field, bool present, const std::string&) {
  if (present) levels_.push_back(new_map(field.key));
  return present;
}

std::optional<size_t> FieldWriter::enter_list(const Field& field, size_t) {
  levels_.push_back(new_map(field.key));
  levels_.back().kind = YamlNode::Kind::kSequence;
  return std::nullopt;
}

void FieldWriter::enter_element(size_t) { levels_.push_back(new_map("")); }

void FieldWriter::visit_choice(const Field& field, const std::string&, Choice& value) {
  levels_.push_back(new_map(field.key));
  push_path(field.key);
  Field type;
  type.key = "type";
  visit(type, &value.type);
  if (value.options != nullptr) value.options->describe(*this);
  leave();
  pop_path();
}

void FieldWriter::inert_if(bool condition, std::initializer_list<const char*> keys,
                           const std::string&) {
  if (!condition) return;
  std::vector<YamlNode>& items = levels_.back().items;
  for (const char* key : keys)
    std::erase_if(items, [&](const YamlNode& i) { return i.key == key; });
}

void FieldWriter::leave() {
  YamlNode done = std::move(levels_.back());
  levels_.pop_back();
  levels_.back().items.push_back(std::move(done));
}

std::string to_yaml(const Config& config) {
  Config copy = config;
  return write_yaml(FieldWriter().write(copy));
}

std::string to_yaml_with_origins(const Config& config) {
  Config copy = config;
  return write_yaml(FieldWriter().write(copy),
                    [&](const std::string& path) { return config.origins.text(path); });
}

}  // namespace switchyard
