#include "config/key_docs.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/errors.h"
#include "config/config.h"
#include "config/fields.h"
#include "config/scalar.h"
#include "config/suggest.h"

namespace switchyard {
namespace {

// Visits a default-constructed config, so that each value seen is the default.
class KeyCollector : public Fields {
 public:
  explicit KeyCollector(const ChoiceTables& tables) : tables_(tables) {}

  std::vector<KeyDoc> docs;

  void inert_if(bool, std::initializer_list<const char*> keys, const std::string& when) override {
    for (const char* key : keys) {
      const std::string inert = without_index(path().empty() ? key : path() + "." + key);
      for (KeyDoc& doc : docs)
        if (doc.path == inert) doc.inert_when += (doc.inert_when.empty() ? "" : ", or ") + when;
    }
  }

 protected:
  bool changes_values() const override { return false; }

  void visit(const Field& field, const ValueRef& value) override {
    KeyDoc doc = start(field);
    doc.type = type_text(field, value, std::string::npos);
    doc.default_value = inline_yaml(value_node(field, value));
    doc.unit = field.unit;
    doc.range = range_text(field);
    docs.push_back(std::move(doc));
  }

  void enter_section(const Field& field) override {
    KeyDoc doc = start(field);
    doc.section = true;
    docs.push_back(std::move(doc));
  }
  bool enter_optional(const Field& field, bool, const std::string&) override {
    enter_section(field);
    return true;
  }
  std::optional<size_t> enter_list(const Field& field, size_t) override {
    enter_section(field);
    return 1;
  }
  void enter_element(size_t) override {}
  void leave() override {}

  void visit_choice(const Field& field, const std::string& kind, Choice& value) override {
    enter_section(field);
    push_path(field.key);
    const std::string outer = only_with_;
    Field type = field;
    type.key = "type";
    type.path = path() + ".type";
    std::string default_type = value.type;
    visit(type, &default_type);
    const size_t type_doc = docs.size() - 1;
    std::vector<std::vector<KeyDoc>> of_types;
    for (const ChoiceRow& row : tables_.rows(kind)) {
      docs[type_doc].names.push_back(row.name + ": " + row.meaning);
      only_with_ = "type: " + row.name;
      row.make()->describe(*this);
      const auto first = docs.begin() + static_cast<int64_t>(type_doc + 1);
      of_types.emplace_back(first, docs.end());
      docs.erase(first, docs.end());
    }
    only_with_ = outer;
    pop_path();
    add_options(of_types);
  }

  void visit_base_files(const Field& field) override {
    KeyDoc doc = start(field);
    doc.type = "text or a list of texts";
    doc.default_value = "[]";
    docs.push_back(std::move(doc));
  }

  std::vector<std::string> names_in(const std::string& kind) const override {
    std::vector<std::string> names;
    for (const ChoiceRow& row : tables_.rows(kind)) names.push_back(row.name);
    return names;
  }

 private:
  // Options of the types of a choice, those that all have alike first and once.
  void add_options(const std::vector<std::vector<KeyDoc>>& of_types) {
    const auto among = [](const std::vector<KeyDoc>& options, KeyDoc doc) {
      return std::any_of(options.begin(), options.end(), [&](const KeyDoc& option) {
        doc.only_with = option.only_with;
        return doc == option;
      });
    };
    const auto in_all = [&](const KeyDoc& doc) {
      return of_types.size() > 1 &&
             std::all_of(of_types.begin(), of_types.end(),
                         [&](const std::vector<KeyDoc>& options) { return among(options, doc); });
    };
    std::vector<KeyDoc> shared, own;
    for (const std::vector<KeyDoc>& options : of_types) {
      for (const KeyDoc& doc : options) {
        if (!in_all(doc)) {
          own.push_back(doc);
        } else if (!among(shared, doc)) {
          shared.push_back(doc);
          shared.back().only_with = only_with_;
        }
      }
    }
    docs.insert(docs.end(), shared.begin(), shared.end());
    docs.insert(docs.end(), own.begin(), own.end());
  }

  KeyDoc start(const Field& field) const {
    KeyDoc doc;
    doc.path = without_index(field.path);
    doc.meaning = field.meaning;
    doc.only_with = only_with_;
    return doc;
  }

  // Of a list one element is visited, [0], which stands for all.
  static std::string without_index(std::string path) {
    for (size_t at; (at = path.find("[0]")) != std::string::npos;) path.erase(at + 1, 1);
    return path;
  }

  const ChoiceTables& tables_;
  std::string only_with_;
};

void add_line(std::string& out, const char* label, const std::string& text) {
  if (!text.empty()) out += fmt::format("  {:<9} {}\n", label, text);
}

std::string key_text(const KeyDoc& doc) {
  std::string out = doc.path + "\n  " + doc.meaning + "\n";
  add_line(out, "type", doc.type);
  add_line(out, "default", doc.default_value);
  add_line(out, "unit", doc.unit);
  add_line(out, "range", doc.range);
  add_line(out, "only with", doc.only_with);
  if (!doc.inert_when.empty()) add_line(out, "no effect", "when " + doc.inert_when);
  for (const std::string& name : doc.names) out += "    " + name + "\n";
  return out;
}

// The keys straight below a section, one a line.
std::string section_text(const KeyDoc& section, const std::vector<KeyDoc>& docs) {
  std::string out = section.path.empty() ? "" : section.path + "\n  " + section.meaning + "\n";
  if (!section.inert_when.empty()) add_line(out, "no effect", "when " + section.inert_when);
  for (const KeyDoc& doc : docs) {
    std::string below = doc.path;
    if (!section.path.empty()) {
      if (below.compare(0, section.path.size(), section.path) != 0) continue;
      below = below.substr(section.path.size());
      if (below.compare(0, 2, "[]") == 0) below = below.substr(2);
      if (below.empty() || below[0] != '.') continue;
      below = below.substr(1);
    }
    if (below.find('.') != std::string::npos) continue;
    out += fmt::format("  {:<22} {}\n", below + (doc.section ? ":" : ""), doc.meaning);
  }
  return out;
}

}  // namespace

std::vector<KeyDoc> document_keys(const ChoiceTables& tables) {
  KeyCollector collector(tables);
  Config defaults;
  defaults.describe(collector);
  return std::move(collector.docs);
}

std::vector<std::string> known_paths(const std::vector<KeyDoc>& docs) {
  std::vector<std::string> paths;
  for (const KeyDoc& doc : docs)
    if (std::find(paths.begin(), paths.end(), doc.path) == paths.end()) paths.push_back(doc.path);
  return paths;
}

TypedSections typed_sections(const std::vector<KeyDoc>& docs) {
  TypedSections typed;
  for (const KeyDoc& doc : docs)
    if (!doc.names.empty()) typed[doc.path.substr(0, doc.path.rfind('.'))] = doc.default_value;
  return typed;
}

std::string help_text(const std::string& path, const ChoiceTables& tables) {
  const std::vector<KeyDoc> docs = document_keys(tables);
  if (path.empty()) return section_text(KeyDoc{}, docs);
  std::string out;
  for (const KeyDoc& doc : docs)
    if (doc.path == path) out += doc.section ? section_text(doc, docs) : key_text(doc);
  if (!out.empty()) return out;

  const std::vector<std::string> paths = known_paths(docs);
  std::string near = closest(path, paths);
  if (near.empty()) {  // a key without its section, or in a wrong one
    const size_t dot = path.rfind('.');
    near = dot == std::string::npos
               ? likely_key(path, "", {}, paths)
               : likely_key(path.substr(dot + 1), path.substr(0, dot), {}, paths);
  }
  throw ConfigError(
      "there is no key '" + printable(path) + "'", "",
      near.empty() ? "`switchyard help` lists the sections" : "did you mean '" + near + "'?");
}

}  // namespace switchyard
