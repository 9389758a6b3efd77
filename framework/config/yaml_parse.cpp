#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <deque>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "config/suggest.h"
#include "config/yaml_node.h"

namespace switchyard {
namespace {

// Builds the tree from yaml-cpp's events. Its own tree is unusable here: it accepts duplicate keys
// and self-references and forgets places.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& file, const std::string& whole) : file_(file), whole_(whole) {}

  std::string place(const YAML::Mark& mark) const {
    if (!whole_.empty()) return whole_;
    if (mark.is_null()) return file_;
    return file_ + ":" + std::to_string(mark.line + 1) + ":" + std::to_string(mark.column + 1);
  }

  YamlNode take_root() {
    if (!wrong_key_.empty())
      throw ConfigError("a key must be a word", wrong_key_, "write 'key: value'");
    return std::move(root_);
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    // Also where a stray ',' or ']' stands: there yaml-cpp would begin documents for ever.
    if (++documents_ > 1)
      throw ConfigError("something follows the end of the document", place(mark),
                        "remove it: a second document ('---'), or a stray bracket or comma");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add(YamlNode::Kind::kNull, mark, "");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw ConfigError("'*' refers to another place of the file, which a config can't", place(mark),
                      "write the value out, or put it in quotes if the star belongs to it");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag, /*quoted_allowed=*/true);
    add(YamlNode::Kind::kScalar, mark, value)->quoted = tag == "!";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { path_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { path_.pop_back(); }

 private:
  struct Level {
    YamlNode* node = nullptr;  // stays put: only the innermost one grows
    bool has_key = false;
    std::string key, key_where;
  };

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor == YAML::NullAnchor) return;
    throw ConfigError("'&' names a value for later use, which a config can't", place(mark),
                      "write the value out where it is needed");
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag, bool quoted_allowed) const {
    if (tag.empty() || tag == "?" || (quoted_allowed && tag == "!")) return;
    throw ConfigError("a config has no tags, but here is one: " + printable(tag), place(mark),
                      "remove it: each key has one type");
  }

  // Takes a scalar as the next key of the map, with what may not be a key refused.
  void take_key(Level& level, const YAML::Mark& mark, YamlNode::Kind kind,
                const std::string& text) {
    level.has_key = true;
    level.key = text;
    level.key_where = place(mark);
    if (kind != YamlNode::Kind::kScalar) {
      // Told at the end only: yaml-cpp also makes such keys up before it finds a missing bracket.
      if (wrong_key_.empty()) wrong_key_ = place(mark);
      return;
    }
    if (level.node->items.size() >= kMaxYamlKeys)
      throw ConfigError("a section of more than " + std::to_string(kMaxYamlKeys) + " keys",
                        place(mark), "is this the right file?");
    if (text == "<<")
      throw ConfigError("'<<' merges sections, which a config can't", place(mark),
                        "write the keys out");
    if (const YamlNode* first = level.node->find(text))
      throw ConfigError("duplicate key '" + printable(text) + "'", place(mark),
                        "it is already given at " + first->key_where + ": remove one of the two");
  }

  // Puts a node at the current place, or takes it as a key; returns where what it holds goes.
  YamlNode* add(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& text) {
    YamlNode* node = &root_;
    if (!path_.empty()) {
      Level& level = path_.back();
      const bool in_map = level.node->kind == YamlNode::Kind::kMap;
      if (in_map && !level.has_key) {
        take_key(level, mark, kind, text);
        discarded_.emplace_back().kind = kind;
        return &discarded_.back();
      }
      node = &level.node->items.emplace_back();
      if (in_map) {
        node->key = std::move(level.key);
        node->key_where = std::move(level.key_where);
        level.has_key = false;
      }
    }
    node->kind = kind;
    // yaml-cpp puts an absent value where the next token stands.
    node->where =
        kind == YamlNode::Kind::kNull && !node->key.empty() ? node->key_where : place(mark);
    node->text = text;
    return node;
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag, /*quoted_allowed=*/false);
    if (static_cast<int>(path_.size()) >= kMaxYamlDepth)
      throw ConfigError("nested deeper than " + std::to_string(kMaxYamlDepth) + " levels",
                        place(mark), "no config needs this: a bracket may be missing");
    path_.emplace_back().node = add(kind, mark, "");
  }

  const std::string& file_;
  const std::string& whole_;
  int documents_ = 0;
  std::string wrong_key_;           // place of the first key that is none
  std::deque<YamlNode> discarded_;  // lists and sections that stand for keys
  YamlNode root_;
  std::vector<Level> path_;
};

bool indented_by_tab(const std::string& text, int line) {
  size_t begin = 0;
  for (; line > 0 && begin != std::string::npos; --line) {
    begin = text.find('\n', begin);
    if (begin != std::string::npos) ++begin;
  }
  if (begin == std::string::npos) return false;
  const size_t end = text.find_first_not_of(" \t", begin);
  return text.substr(begin, end - begin).find('\t') != std::string::npos;
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view wanted) const {
  if (kind != Kind::kMap) return nullptr;
  for (const YamlNode& item : items)
    if (item.key == wanted) return &item;
  return nullptr;
}

YamlNode* YamlNode::find(std::string_view wanted) {
  return const_cast<YamlNode*>(std::as_const(*this).find(wanted));
}

YamlNode parse_yaml(const std::string& text, const std::string& file, const std::string& whole) {
  const std::string start = whole.empty() ? file + ":1:1" : whole;
  if (text.size() > kMaxYamlBytes)
    throw ConfigError("a config of " + std::to_string(text.size()) + " bytes; at most " +
                          std::to_string(kMaxYamlBytes) + " are read",
                      file, "is this the right file?");
  if (text.find('\0') != std::string::npos)
    throw ConfigError("not a text file: it holds a zero byte", file, "is this the right file?");
  std::istringstream stream(text);
  TreeBuilder builder(file, whole);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    throw ConfigError("not valid YAML: " + error.msg, builder.place(error.mark),
                      indented_by_tab(text, error.mark.line)
                          ? "indent with spaces: this line begins with a tab"
                          : "look for a missing space, quote or bracket at or before this place");
  }
  YamlNode root = builder.take_root();
  if (root.where.empty()) root.where = start;
  return root;
}

}  // namespace switchyard
