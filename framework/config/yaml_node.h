// A YAML document as a small tree that knows where everything stands. It is stricter than YAML: no
// anchors, aliases, tags, merge keys, duplicate keys or second documents. Values stay text here;
// what type they are is the reader's business (field_reader.h).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  std::string where;            // file:line:column, or the override that gave it
  std::string text;             // of a scalar
  bool quoted = false;          // a scalar in quotes is text, whatever it looks like
  bool one_line = false;        // write_yaml: in braces, being a value rather than a section
  std::string key, key_where;   // as an entry of a map
  std::vector<YamlNode> items;  // of a sequence, or the entries of a map

  // The entry of that key; null if there is none or this is no map.
  const YamlNode* find(std::string_view wanted) const;
  YamlNode* find(std::string_view wanted);
};

inline constexpr size_t kMaxYamlBytes = size_t{1} << 20;
inline constexpr size_t kMaxYamlKeys = 1000;  // of one section
inline constexpr int kMaxYamlDepth = 64;

// Parses one document. An empty one is a kNull node. Throws ConfigError with the place.
//   file   in front of ":line:column" in `where`
//   whole  if not empty, stands in place of file:line:column everywhere
YamlNode parse_yaml(const std::string& text, const std::string& file,
                    const std::string& whole = "");

// The sections whose other keys depend on their `type`, by path, with the type that holds where
// none is given.
using TypedSections = std::map<std::string, std::string>;

// Lays `over` on `under`: sections key by key, empty ones without effect; anything else replaces
// what was there. A typed section whose `type` changes is replaced as a whole, since its other keys
// belong to the type that goes.
void lay_over(YamlNode& under, YamlNode over, const TypedSections& typed);

// Lays "a.b=c" over the tree: c is YAML, and stands where a.b stood. A changed `type` of a typed
// section removes what files (not earlier overrides) gave beside it. Throws ConfigError.
void apply_override(YamlNode& root, const std::string& assignment, const TypedSections& typed);

// On one line: a scalar, {key: value} or [item, item].
std::string inline_yaml(const YamlNode& node);

// As block YAML; lists of scalars in brackets. Unquoted scalars are written as they are.
//   comment  if not empty, called with the path of what each line gives (data.sources[0].path) for
//            the comment behind it; lines without a value have none
std::string write_yaml(const YamlNode& root,
                       const std::function<std::string(const std::string&)>& comment = {});

}  // namespace switchyard
