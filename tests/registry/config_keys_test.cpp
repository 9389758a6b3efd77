// The real keys, with the real tables: misspelt ones are recognised, and docs/config.md is current.
#include "config/key_docs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "base/errors.h"
#include "config/config.h"
#include "registry/choices.h"

namespace switchyard {
namespace {

// One random edit of a word, not of its first place only: insert, delete, substitute or transpose.
std::string misspelt(const std::string& word, std::mt19937& random) {
  const std::string letters = "abcdefghijklmnopqrstuvwxyz_0123456789";
  std::string typed = word;
  const size_t at = random() % word.size();
  const char letter = letters[random() % letters.size()];
  switch (random() % 4) {
    case 0:
      typed.erase(at, 1);
      break;
    case 1:
      typed.insert(random() % (word.size() + 1), 1, letter);
      break;
    case 2:
      typed[at] = letter;
      break;
    default:
      if (at + 1 < word.size()) std::swap(typed[at], typed[at + 1]);
  }
  return typed;
}

std::string parent_of(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

// A config that gives one key, under the `type` that it belongs to: "{moe: {experts: 1}}".
std::string config_with(const KeyDoc& doc, const std::string& name, const TypedSections& typed) {
  std::string text = name + ": 1";
  bool needs_type = !doc.only_with.empty();
  for (std::string path = parent_of(doc.path); !path.empty(); path = parent_of(path)) {
    std::string section = path.substr(path.rfind('.') + 1);
    const bool list = section.size() > 2 && section.compare(section.size() - 2, 2, "[]") == 0;
    if (list) section.resize(section.size() - 2);
    if (needs_type && typed.count(path) != 0) {
      text = doc.only_with + ", " + text;
      needs_type = false;
    }
    text = section + ": " + (list ? "[{" + text + "}]" : "{" + text + "}");
  }
  return "{" + text + "}";
}

TEST(RealKeys, RandomTyposGetTheRightFirstSuggestion) {
  const std::vector<KeyDoc> docs = document_keys(choice_tables());
  const TypedSections typed = typed_sections(docs);
  std::map<std::string, std::vector<std::string>> siblings;  // by section
  for (const KeyDoc& doc : docs)
    siblings[parent_of(doc.path)].push_back(doc.path.substr(parent_of(doc.path).size()));

  std::mt19937 random(20);
  int tried = 0, found = 0;
  std::string missed;
  while (tried < 1000) {
    const KeyDoc& doc = docs[random() % docs.size()];
    const std::string section = parent_of(doc.path);
    const std::string dot = section.empty() ? "" : ".";
    const std::string meant = doc.path.substr(section.size() + dot.size());
    const std::string typed_word = misspelt(meant, random);
    const std::vector<std::string>& known = siblings[section];
    const bool is_key = std::find(known.begin(), known.end(), dot + typed_word) != known.end();
    const bool is_word = typed_word.find_first_not_of("0123456789") != std::string::npos;
    if (is_key || !is_word) continue;
    ++tried;
    const std::string text = config_with(doc, typed_word, typed);
    try {
      parse_config(text, "a.yaml", {}, choice_tables());
      ADD_FAILURE() << "no error for " << text;
    } catch (const ConfigError& error) {
      const bool right = error.advice() == "did you mean '" + meant + "'?";
      found += right;
      if (!right) missed += "  " + text + ": " + error.what() + "\n";
    }
  }
  EXPECT_GE(found, 950) << missed;
  RecordProperty("found", found);
}

// A key that is right but stands in a wrong section, or in none.
TEST(RealKeys, KeysInTheWrongPlaceAreFound) {
  const auto advice = [](const std::string& text) {
    try {
      parse_config(text, "a.yaml", {}, choice_tables());
    } catch (const ConfigError& error) {
      return error.advice();
    }
    return std::string("no error");
  };
  EXPECT_EQ(advice("train_factor: 2\n"), "did you mean 'moe.capacity.train_factor'?");
  EXPECT_EQ(advice("train_facotr: 2\n"), "did you mean 'moe.capacity.train_factor'?");
  EXPECT_EQ(advice("moe: {encoder: {train_factor: 2}}\n"),
            "did you mean 'moe.encoder.capacity.train_factor'?");
  EXPECT_EQ(advice("train: {d_modle: 2}\n"), "did you mean 'model.d_model'?");
  EXPECT_EQ(advice("moe.experts: 2\n"),
            "dots are for --set: write 'moe:' and its keys on the lines below, indented");
}

// A reference that lags behind the keys misleads; the message says how to renew it.
TEST(Documents, TheConfigReferenceIsCurrent) {
  const std::filesystem::path file = std::filesystem::path(SWITCHYARD_SOURCE) / "docs/config.md";
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  std::istringstream committed(text.str()), current(key_reference(choice_tables()));
  std::string old_line, new_line;
  for (int number = 1;; ++number) {
    const bool more_old = static_cast<bool>(std::getline(committed, old_line));
    const bool more_new = static_cast<bool>(std::getline(current, new_line));
    if (!more_old && !more_new) break;
    if (more_old == more_new && old_line == new_line) continue;
    FAIL() << "docs/config.md:" << number << " is not what the keys say now. Renew it:\n"
           << "  build/release/switchyard config docs > docs/config.md\n"
           << "it holds:  " << (more_old ? old_line : "(its end)") << "\n"
           << "should be: " << (more_new ? new_line : "(its end)");
  }
}

}  // namespace
}  // namespace switchyard
