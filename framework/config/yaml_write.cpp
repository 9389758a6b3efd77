#include <fmt/format.h>

#include "config/yaml_node.h"

namespace switchyard {
namespace {

std::string in_quotes(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string scalar(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kNull) return "null";
  return node.quoted ? in_quotes(node.text) : node.text;
}

bool is_block(const YamlNode& node) {
  if (node.items.empty()) return false;
  return node.kind == YamlNode::Kind::kMap || (node.kind == YamlNode::Kind::kSequence &&
                                               node.items.front().kind == YamlNode::Kind::kMap);
}

//   dash  whether the first line continues a "- " that the caller has written
void write_block(const YamlNode& node, size_t indent, bool dash, std::string& out) {
  for (const YamlNode& item : node.items) {
    if (!dash) out.append(indent, ' ');
    dash = false;
    if (node.kind == YamlNode::Kind::kSequence) {
      out += "- ";
      write_block(item, indent + 2, /*dash=*/true, out);
    } else if (is_block(item)) {
      out += item.key + ":\n";
      write_block(item, indent + 2, /*dash=*/false, out);
    } else {
      out += item.key + ": " + inline_yaml(item) + "\n";
    }
  }
}

}  // namespace

std::string inline_yaml(const YamlNode& node) {
  if (node.kind != YamlNode::Kind::kMap && node.kind != YamlNode::Kind::kSequence)
    return scalar(node);
  const bool map = node.kind == YamlNode::Kind::kMap;
  std::string out;
  for (const YamlNode& item : node.items)
    out += (out.empty() ? "" : ", ") + (map ? item.key + ": " : "") + inline_yaml(item);
  return map ? "{" + out + "}" : "[" + out + "]";
}

std::string write_yaml(const YamlNode& root) {
  std::string out;
  write_block(root, 0, /*dash=*/false, out);
  return out;
}

}  // namespace switchyard
