// The Markdown reference: docs/config.md.
#include <fmt/format.h>

#include "config/key_docs.h"

namespace switchyard {
namespace {

constexpr const char* kHead = R"(# Every key of a config

<!-- Written by `switchyard config docs`; don't edit it by hand. Renew it with
     build/release/switchyard config docs > docs/config.md -->

[Write a config](how-to/write-a-config.md) says how files, base files and `--set` work together. `switchyard help KEY`
prints one of these keys, `switchyard config show CONFIG --origin` a whole config with where each value comes from.
)";

// A cell of a table: '|' would end it.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string row(const KeyDoc& doc, const std::string& name) {
  std::string range = doc.range;
  if (!doc.unit.empty()) range += (range.empty() ? "" : " ") + doc.unit;
  std::string meaning = doc.meaning;
  if (!doc.inert_when.empty()) meaning += " No effect when " + doc.inert_when + ".";
  return fmt::format("| `{}` | {} | `{}` | {} | {} |\n", name, cell(doc.type),
                     cell(doc.default_value), cell(range), cell(meaning));
}

// The name of a key straight below `section`; empty for all others.
std::string name_below(const std::string& section, const std::string& path) {
  std::string prefix = section.empty() ? "" : section + ".";
  if (path.compare(0, section.size() + 2, section + "[]") == 0) prefix = section + "[].";
  if (path.compare(0, prefix.size(), prefix) != 0) return "";
  const std::string name = path.substr(prefix.size());
  return name.find('.') == std::string::npos ? name : "";
}

std::string section_reference(const KeyDoc& section, const std::vector<KeyDoc>& docs) {
  std::string out;
  if (!section.path.empty()) {
    out += fmt::format("\n## {}\n\n{}", section.path, section.meaning);
    if (!section.only_with.empty()) out += fmt::format(" Only with `{}`.", section.only_with);
    if (!section.inert_when.empty()) out += " No effect when " + section.inert_when + ".";
    out += '\n';
  }
  std::string only_with = section.only_with, names;
  bool in_table = false;
  for (const KeyDoc& doc : docs) {
    const std::string name = name_below(section.path, doc.path);
    if (name.empty() || doc.section) continue;
    if (doc.only_with != only_with) {
      only_with = doc.only_with;
      out += fmt::format("\nWith `{}`:\n", only_with);
      in_table = false;
    }
    if (!in_table) out += "\n| key | type | default | range | meaning |\n|---|---|---|---|---|\n";
    in_table = true;
    out += row(doc, name);
    if (doc.names.empty()) continue;
    out += '\n';
    for (const std::string& line : doc.names) {
      const size_t colon = line.find(": ");
      out += fmt::format("- `{}`: {}\n", line.substr(0, colon), line.substr(colon + 2));
    }
    in_table = false;
  }
  return out;
}

}  // namespace

std::string key_reference(const ChoiceTables& tables) {
  const std::vector<KeyDoc> docs = document_keys(tables);
  std::string out = kHead + section_reference(KeyDoc{}, docs);
  for (const KeyDoc& doc : docs)
    if (doc.section) out += section_reference(doc, docs);
  return out;
}

}  // namespace switchyard
