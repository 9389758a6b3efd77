#include "data/json_lines.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using Json = nlohmann::json;

// Fills a LineDocument, remembering the first thing that is wrong.
class LineParser {
 public:
  explicit LineParser(const LineLayout& layout) : layout_(layout) {}

  LineDocument parse(std::string_view line) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_discarded()) {
      refuse("the line is no JSON", "each line is one JSON object, in UTF-8");
    } else if (!json.is_object()) {
      refuse("the line is no JSON object", "each line is one, such as " + example());
    } else if (layout_.examples == ExampleKind::kPairs) {
      read_part(json, layout_.keys.inputs, 0);
      read_part(json, layout_.keys.targets, 1);
    } else {
      read_part(json, layout_.keys.text, 0);
    }
    if (document_.wrong.empty() && !layout_.keys.label.empty()) read_label(json);
    return std::move(document_);
  }

 private:
  void refuse(std::string wrong, std::string advice) {
    if (!document_.wrong.empty()) return;
    document_.wrong = std::move(wrong);
    document_.advice = std::move(advice);
  }

  std::string example() const {
    const char* value = layout_.ids ? "[17, 4]" : "\"...\"";
    if (layout_.examples == ExampleKind::kText) {
      return fmt::format("{{\"{}\": {}}}", layout_.keys.text, value);
    }
    return fmt::format("{{\"{}\": {}, \"{}\": {}}}", layout_.keys.inputs, value,
                       layout_.keys.targets, value);
  }

  const Json* find(const Json& json, const std::string& key) {
    const auto found = json.find(key);
    if (found != json.end()) return &*found;
    std::string keys;
    for (const auto& [name, value] : json.items()) {
      if (keys.size() < 80) keys += (keys.empty() ? "" : ", ") + name;
    }
    refuse(fmt::format("the line lacks \"{}\"", key),
           keys.empty() ? "the object is empty" : "it has: " + keys);
    return nullptr;
  }

  void read_part(const Json& json, const std::string& key, size_t part) {
    const Json* value = find(json, key);
    if (value == nullptr) return;
    if (layout_.ids) {
      read_ids(*value, key, document_.parts[part]);
    } else if (value->is_string()) {
      document_.parts[part] = clean_text(value->get_ref<const std::string&>());
    } else {
      refuse(fmt::format("\"{}\" is no text", key),
             value->is_array() ? "for token ids, set the source's format: ids"
                               : "such as " + example());
    }
  }

  void read_ids(const Json& value, const std::string& key, std::string& part) {
    if (value.is_string()) {
      return refuse(fmt::format("\"{}\" is text, but the dataset has no tokenizer", key),
                    "give ids, or set format: jsonl and take data.vocabulary out to train one");
    }
    if (!value.is_array()) {
      return refuse(fmt::format("\"{}\" is no list of ids", key), "such as " + example());
    }
    const Vocabulary& vocabulary = *layout_.ids;
    for (const Json& element : value) {
      const bool fits = element.is_number_unsigned() &&
                        element.get<uint64_t>() < static_cast<uint64_t>(vocabulary.size);
      if (!fits) {
        // Printing what is nested would recurse as deep as it is.
        return refuse(fmt::format("\"{}\" holds {}", key,
                                  element.is_structured() ? element.type_name()
                                                          : element.dump().substr(0, 40)),
                      fmt::format("ids are whole numbers from 0 to {}", vocabulary.size - 1));
      }
      const auto id = element.get<int32_t>();
      if (id == vocabulary.pad) {
        return refuse(fmt::format("\"{}\" holds {}, which is padding", key, id),
                      "leave padding out of the ids, or state another data.vocabulary.pad");
      }
      part.append(reinterpret_cast<const char*>(&id), sizeof id);
    }
  }

  void read_label(const Json& json) {
    const Json* value = find(json, layout_.keys.label);
    if (value == nullptr) return;
    if (value->is_string()) document_.label = value->get<std::string>();
    if (value->is_number_integer() || value->is_boolean()) document_.label = value->dump();
    if (document_.label.empty()) {
      refuse(fmt::format("\"{}\" is no label", layout_.keys.label),
             "a label is a text that isn't empty, or a whole number");
    }
  }

  const LineLayout& layout_;
  LineDocument document_;
};

}  // namespace

LineDocument parse_line(std::string_view line, const LineLayout& layout) {
  return LineParser(layout).parse(line);
}

LineReader::LineReader(std::string_view text) : rest_(text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
}

std::optional<LineReader::Line> LineReader::next() {
  while (!rest_.empty()) {
    const std::string_view line = rest_.substr(0, rest_.find('\n'));
    rest_.remove_prefix(std::min(line.size() + 1, rest_.size()));
    ++number_;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) return Line{number_, line};
  }
  return std::nullopt;
}

}  // namespace switchyard
