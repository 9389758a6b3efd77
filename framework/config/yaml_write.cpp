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
  if (node.items.empty() || node.one_line) return false;
  return node.kind == YamlNode::Kind::kMap || (node.kind == YamlNode::Kind::kSequence &&
                                               node.items.front().kind == YamlNode::Kind::kMap);
}

// Writes the lines of a tree, and beside each the path of what it gives.
class BlockWriter {
 public:
  struct Line {
    std::string text;
    std::string path;  // empty where the line gives no value
  };

  //   dash  whether the first line continues a "- " that stands there already
  void write(const YamlNode& node, const std::string& path, size_t indent, bool dash) {
    for (size_t i = 0; i < node.items.size(); ++i) {
      const YamlNode& item = node.items[i];
      if (!dash) lines_.push_back({std::string(indent, ' '), ""});
      dash = false;
      if (node.kind == YamlNode::Kind::kSequence) {
        lines_.back().text += "- ";
        write(item, path + "[" + std::to_string(i) + "]", indent + 2, /*dash=*/true);
        continue;
      }
      const std::string below = path.empty() ? item.key : path + "." + item.key;
      lines_.back().text += item.key + ":";
      if (is_block(item)) {
        write(item, below, indent + 2, /*dash=*/false);
      } else {
        lines_.back().text += " " + inline_yaml(item);
        lines_.back().path = below;
      }
    }
  }

  const std::vector<Line>& lines() const { return lines_; }

 private:
  std::vector<Line> lines_;
};

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

std::string write_yaml(const YamlNode& root,
                       const std::function<std::string(const std::string&)>& comment) {
  BlockWriter writer;
  writer.write(root, "", 0, /*dash=*/false);
  constexpr size_t kCommentColumn = 44;
  std::string out;
  for (const BlockWriter::Line& line : writer.lines()) {
    out += line.text;
    if (comment && !line.path.empty()) {
      const size_t gap =
          line.text.size() + 2 < kCommentColumn ? kCommentColumn - line.text.size() : 2;
      out += std::string(gap, ' ') + "# " + comment(line.path);
    }
    out += '\n';
  }
  return out;
}

}  // namespace switchyard
