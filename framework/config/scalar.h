// A single value of the config: from YAML text with all checks, and back to text.
#pragma once

#include <string>

#include "config/fields.h"
#include "config/yaml_node.h"

namespace switchyard {

// Sets the value from the node. Throws ConfigError when type, range or name don't fit.
void read_value(const YamlNode& node, const Field& field, const ValueRef& value);

// The value as a node that read_value reads back to the same.
YamlNode value_node(const Field& field, const ValueRef& value);

// For people: "integer", "number or none", "one of ceil, floor"; names cut after `width`
// characters.
std::string type_text(const Field& field, const ValueRef& value, size_t width = 90);

// "0.1 to 64", or empty where there is no range.
std::string range_text(const Field& field);

}  // namespace switchyard
