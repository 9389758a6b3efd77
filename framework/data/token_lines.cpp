#include "data/token_lines.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/errors.h"
#include "config/suggest.h"
#include "data/json_lines.h"

namespace switchyard {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

// Rotary angles are float32 products of the position.
constexpr int64_t kPositions = int64_t{1} << 24;

// A list of a line.
struct Key {
  const char* name;
  Ids GivenTokens::*list;
  int64_t below;                       // numbers are from 0 to this less one
  Ids GivenTokens::*beside = nullptr;  // the ids that it has as many numbers as; null: it is ids
};

std::vector<Key> keys_of(TokenLineKeys keys, int64_t vocabulary) {
  using Given = GivenTokens;
  std::vector<Key> all = {{"input_ids", &Given::input_ids, vocabulary}};
  if (keys == TokenLineKeys::kPrompt) return all;
  const bool has_encoder = keys == TokenLineKeys::kEncoderDecoder;
  if (has_encoder) all.push_back({"decoder_input_ids", &Given::decoder_input_ids, vocabulary});
  all.push_back({"attention_mask", &Given::attention_mask, 2, &Given::input_ids});
  if (has_encoder) {
    all.push_back(
        {"decoder_attention_mask", &Given::decoder_attention_mask, 2, &Given::decoder_input_ids});
  } else {
    all.push_back({"position_ids", &Given::position_ids, kPositions, &Given::input_ids});
  }
  return all;
}

class Parser {
 public:
  Parser(TokenLineKeys keys, int64_t vocabulary, const std::string& where)
      : keys_(keys_of(keys, vocabulary)), where_(where) {}

  GivenTokens parse(std::string_view line) const {
    const Json json = read(line);
    if (!json.is_object()) {
      refuse("the line is no JSON object", "each line is one, such as " + example());
    }
    for (const auto& [name, value] : json.items()) check_known(name);
    GivenTokens given;
    for (const Key& key : keys_) {
      const auto found = json.find(key.name);
      if (found != json.end()) {
        read_list(key, *found, given);
      } else if (key.beside == nullptr) {
        refuse(fmt::format("the line lacks \"{}\"", key.name), "such as " + example());
      }
    }
    return given;
  }

 private:
  [[noreturn]] void refuse(const std::string& what, const std::string& advice) const {
    throw InputError(what, where_, advice);
  }

  // A key that comes twice would hide its first list.
  Json read(std::string_view line) const {
    std::set<std::string> seen;
    std::string twice;
    const auto note = [&](int depth, Json::parse_event_t event, Json& parsed) {
      if (depth != 1 || event != Json::parse_event_t::key) return true;
      const auto& name = parsed.get_ref<const std::string&>();
      if (!seen.insert(name).second) twice = name;
      return true;
    };
    Json json = Json::parse(line, note, false);
    if (json.is_discarded()) {
      refuse("the line is no JSON", "each line is one JSON object, such as " + example());
    }
    if (!twice.empty()) refuse(fmt::format("\"{}\" stands there twice", printable(twice, 40)), "");
    return json;
  }

  void check_known(const std::string& name) const {
    if (std::ranges::any_of(keys_, [&](const Key& key) { return key.name == name; })) return;
    std::vector<std::string> names;
    for (const Key& key : keys_) names.emplace_back(key.name);
    refuse(fmt::format("\"{}\" is no key of this model's lines", printable(name, 40)),
           fmt::format("the keys are {}", fmt::join(names, ", ")));
  }

  void read_list(const Key& key, const Json& value, GivenTokens& given) const {
    if (!value.is_array()) {
      refuse(fmt::format("\"{}\" is no list", key.name),
             value.is_string() ? "give token ids instead of text" : "such as " + example());
    }
    const auto size = static_cast<int64_t>(value.size());
    if (size == 0 && key.beside == nullptr) {
      refuse(fmt::format("\"{}\" is empty", key.name), "give one id at least");
    }
    if (size > kMaxGivenIds) {
      refuse(fmt::format("\"{}\" has {} numbers", key.name, size),
             fmt::format("{} at most", kMaxGivenIds));
    }
    if (key.beside != nullptr && size != std::ssize(given.*key.beside)) {
      refuse(fmt::format("\"{}\" has {} numbers for {} ids", key.name, size,
                         (given.*key.beside).size()),
             "give one for each id");
    }
    for (const Json& number : value) (given.*key.list).push_back(read_number(key, number));
  }

  int32_t read_number(const Key& key, const Json& number) const {
    if (number.is_number_unsigned() && number.get<uint64_t>() < static_cast<uint64_t>(key.below)) {
      return number.get<int32_t>();
    }
    // Printing what is nested would recurse as deep as it is.
    const std::string seen = number.is_number() ? number.dump() : number.type_name();
    refuse(fmt::format("\"{}\" holds {}", key.name, seen),
           fmt::format("its numbers are whole ones from 0 to {}{}", key.below - 1,
                       key.below == 2 ? ": 1 for a token, 0 for padding" : ""));
  }

  std::string example() const {
    std::string lists;
    for (const Key& key : keys_) {
      if (key.beside != nullptr) continue;
      lists += fmt::format("{}\"{}\": [17, 4]", lists.empty() ? "" : ", ", key.name);
    }
    return "{" + lists + "}";
  }

  std::vector<Key> keys_;
  const std::string& where_;
};

}  // namespace

GivenTokens parse_token_line(std::string_view line, TokenLineKeys keys, int64_t vocabulary,
                             const std::string& where) {
  return Parser(keys, vocabulary, where).parse(line);
}

std::vector<GivenTokens> read_token_lines(const std::filesystem::path& path, TokenLineKeys keys,
                                          int64_t vocabulary) {
  const PlainBytes file(path);
  LineReader lines(file.bytes());
  std::vector<GivenTokens> all;
  while (const std::optional<LineReader::Line> line = lines.next()) {
    const std::string where = fmt::format("{}:{}", path.string(), line->number);
    all.push_back(parse_token_line(line->text, keys, vocabulary, where));
  }
  if (all.empty()) {
    throw InputError("the file has no line", path.string(),
                     "write a JSON object on each line, such as {\"input_ids\": [17, 4]}");
  }
  return all;
}

}  // namespace switchyard
