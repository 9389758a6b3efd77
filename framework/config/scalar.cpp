#include "config/scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/errors.h"
#include "base/overloaded.h"
#include "config/suggest.h"

namespace switchyard {
namespace {

// With a point always: some readers of YAML take 1 for an integer and 1e-06 for text.
std::string real_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find('.') != std::string::npos) return text;
  return text.insert(std::min(text.find('e'), text.size()), ".0");
}

std::string shown(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a section";
    case YamlNode::Kind::kScalar:
      break;
  }
  return node.quoted ? "\"" + printable(node.text) + "\"" : printable(node.text);
}

std::string with_unit(const std::string& range, const Field& field) {
  return field.unit.empty() ? range : range + " " + field.unit;
}

[[noreturn]] void refuse_type(const YamlNode& node, const Field& field, const ValueRef& value) {
  std::string expected = "expected: " + type_text(field, value);
  const std::string range = range_text(field);
  if (!range.empty()) expected += ", " + with_unit(range, field);
  if (node.quoted && !std::holds_alternative<std::string*>(value))
    expected += "; without the quotes";
  if (std::holds_alternative<bool*>(value)) expected += " (not yes, no, on, off)";
  throw ConfigError(field.path + " = " + shown(node) + " has the wrong type", node.where, expected);
}

[[noreturn]] void refuse_range(const YamlNode& node, const Field& field) {
  throw ConfigError(field.path + " = " + shown(node) + " is out of range", node.where,
                    "allowed: " + with_unit(range_text(field), field));
}

// 010 is 8 to some readers of YAML and 10 to others; 0x10 and 0o10 are numbers to some only.
void refuse_octal(const YamlNode& node, const Field& field) {
  const size_t first = node.text.find_first_not_of("+-");
  if (first == std::string::npos || node.text[first] != '0' || first + 1 >= node.text.size())
    return;
  const std::string rest = node.text.substr(first + 1);
  if (rest.find_first_not_of("0123456789abcdefABCDEFxXoO_") != std::string::npos) return;
  if (rest[0] == 'e' || rest[0] == 'E') return;
  const size_t significant = rest.find_first_not_of('0');
  const bool decimal = rest.find_first_not_of("0123456789") == std::string::npos;
  throw ConfigError(field.path + " = " + shown(node) +
                        ": a number that begins with 0 is octal to some readers of YAML",
                    node.where,
                    decimal
                        ? "write " + (significant == std::string::npos ? std::string("0")
                                                                       : rest.substr(significant))
                        : "write it in decimal, without a leading 0");
}

bool is_plain(const YamlNode& node) { return node.kind == YamlNode::Kind::kScalar && !node.quoted; }

bool is_word(const YamlNode& node, const std::string& word) {
  return node.kind == YamlNode::Kind::kScalar && node.text == word;
}

template <typename Number>
Number parse_number(const YamlNode& node, const Field& field, const ValueRef& value) {
  if (!is_plain(node)) refuse_type(node, field, value);
  refuse_octal(node, field);
  const char* begin = node.text.data();
  const char* end = begin + node.text.size();
  if (*begin == '+' && begin + 1 != end && begin[1] != '-') ++begin;
  Number number{};
  const auto [stopped, error] = std::from_chars(begin, end, number);
  if (stopped != end || error == std::errc::invalid_argument) refuse_type(node, field, value);
  if (error == std::errc::result_out_of_range) refuse_range(node, field);
  return number;
}

int64_t read_integer(const YamlNode& node, const Field& field, const ValueRef& value) {
  const int64_t number = parse_number<int64_t>(node, field, value);
  if (number < field.integers->min || number > field.integers->max) refuse_range(node, field);
  return number;
}

double read_real(const YamlNode& node, const Field& field, const ValueRef& value) {
  // from_chars would take inf and nan.
  if (is_plain(node) && node.text.find_first_of("0123456789") == std::string::npos)
    refuse_type(node, field, value);
  const double number = parse_number<double>(node, field, value);
  if (!(number >= field.reals->min && number <= field.reals->max)) refuse_range(node, field);
  return number;
}

bool read_boolean(const YamlNode& node, const Field& field, const ValueRef& value) {
  if (!is_plain(node) || (node.text != "true" && node.text != "false"))
    refuse_type(node, field, value);
  return node.text == "true";
}

size_t read_word(const YamlNode& node, const Field& field, const ValueRef& value) {
  if (node.kind != YamlNode::Kind::kScalar) refuse_type(node, field, value);
  const auto found = std::find(field.words.begin(), field.words.end(), node.text);
  if (found == field.words.end())
    throw ConfigError(field.path + " = " + shown(node) + " is not known", node.where,
                      suggestion(node.text, field.words));
  return static_cast<size_t>(found - field.words.begin());
}

std::string read_text(const YamlNode& node, const Field& field, const ValueRef& value) {
  if (!field.words.empty()) return field.words[read_word(node, field, value)];
  if (node.kind != YamlNode::Kind::kScalar) refuse_type(node, field, value);
  return node.text;
}

std::vector<std::string> read_texts(const YamlNode& node, const Field& field,
                                    const ValueRef& value) {
  if (node.kind != YamlNode::Kind::kSequence) refuse_type(node, field, value);
  std::vector<std::string> texts;
  for (const YamlNode& item : node.items) texts.push_back(read_text(item, field, value));
  return texts;
}

LayerSet read_layers(const YamlNode& node, const Field& field, const ValueRef& value) {
  if (is_word(node, "none")) return LayerSet::none();
  if (is_word(node, "all")) return LayerSet::all();
  if (node.kind == YamlNode::Kind::kMap) {
    const YamlNode* every = node.find("every");
    if (every == nullptr || node.items.size() != 1) refuse_type(node, field, value);
    Field step = field;
    step.path += ".every";
    step.integers = Range<int64_t>{1, 1024};
    int64_t unused = 0;  // names the type in errors
    return LayerSet::every(read_integer(*every, step, &unused));
  }
  if (node.kind != YamlNode::Kind::kSequence || node.items.empty()) refuse_type(node, field, value);
  std::vector<int64_t> layers;
  for (const YamlNode& item : node.items) {
    int64_t unused = 0;
    const int64_t number = read_integer(item, field, &unused);
    if (std::find(layers.begin(), layers.end(), number) != layers.end())
      throw ConfigError(field.path + " lists layer " + std::to_string(number) + " twice",
                        item.where, "remove one of the two");
    layers.push_back(number);
  }
  return LayerSet::list(std::move(layers));
}

YamlNode plain(const std::string& text) {
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.text = text;
  return node;
}

// Bare only where every reader of YAML takes it as text.
YamlNode text_node(const std::string& text) {
  YamlNode node = plain(text);
  static const char* const kTaken[] = {"true", "false", "null", "yes", "no", "on",
                                       "off",  "y",     "n",    "inf", "nan"};
  std::string lower;
  for (const char c : text) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool simple = !text.empty() && text.find_first_not_of(
                                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789_/.-") == std::string::npos;
  const bool letter_first = simple && (std::isalpha(static_cast<unsigned char>(text[0])) != 0 ||
                                       text[0] == '/' || text[0] == '_');
  node.quoted =
      !letter_first || std::find(std::begin(kTaken), std::end(kTaken), lower) != std::end(kTaken);
  return node;
}

YamlNode texts_node(const std::vector<std::string>& texts) {
  YamlNode node;
  node.kind = YamlNode::Kind::kSequence;
  for (const std::string& text : texts) node.items.push_back(text_node(text));
  return node;
}

YamlNode layers_node(const LayerSet& layers) {
  YamlNode node;
  if (layers.step() > 0) {
    node.kind = YamlNode::Kind::kMap;
    node.one_line = true;
    node.items.push_back(plain(std::to_string(layers.step())));
    node.items.back().key = "every";
  } else if (!layers.listed().empty()) {
    node.kind = YamlNode::Kind::kSequence;
    for (const int64_t layer : layers.listed()) node.items.push_back(plain(std::to_string(layer)));
  } else {
    node = plain(layers.text());
  }
  return node;
}

}  // namespace

void read_value(const YamlNode& node, const Field& field, const ValueRef& value) {
  if (node.kind == YamlNode::Kind::kNull)
    throw ConfigError(field.path + " has no value", node.where,
                      "expected: " + type_text(field, value) + "; or remove the key");
  const auto optional = [&](auto* target, auto read) {
    if (is_word(node, field.words[0])) {
      target->reset();
    } else {
      *target = read(node, field, value);
    }
  };
  std::visit(Overloaded{[&](bool* target) { *target = read_boolean(node, field, value); },
                        [&](int64_t* target) { *target = read_integer(node, field, value); },
                        [&](double* target) { *target = read_real(node, field, value); },
                        [&](std::optional<int64_t>* target) { optional(target, read_integer); },
                        [&](std::optional<double>* target) { optional(target, read_real); },
                        [&](std::string* target) { *target = read_text(node, field, value); },
                        [&](std::vector<std::string>* target) {
                          *target = read_texts(node, field, value);
                        },
                        [&](LayerSet* target) { *target = read_layers(node, field, value); },
                        [&](const EnumRef& target) { target.set(read_word(node, field, value)); }},
             value);
}

YamlNode value_node(const Field& field, const ValueRef& value) {
  return std::visit(
      Overloaded{[&](bool* target) { return plain(*target ? "true" : "false"); },
                 [&](int64_t* target) { return plain(std::to_string(*target)); },
                 [&](double* target) { return plain(real_text(*target)); },
                 [&](std::optional<int64_t>* target) {
                   return plain(*target ? std::to_string(**target) : field.words[0]);
                 },
                 [&](std::optional<double>* target) {
                   return plain(*target ? real_text(**target) : field.words[0]);
                 },
                 [&](std::string* target) { return text_node(*target); },
                 [&](std::vector<std::string>* target) { return texts_node(*target); },
                 [&](LayerSet* target) { return layers_node(*target); },
                 [&](const EnumRef& target) { return plain(field.words.at(target.get())); }},
      value);
}

std::string type_text(const Field& field, const ValueRef& value, size_t width) {
  const std::string or_word = field.words.empty() ? "" : " or " + field.words[0];
  return std::visit(
      Overloaded{[](bool*) { return std::string("true or false"); },
                 [](int64_t*) { return std::string("integer"); },
                 [](double*) { return std::string("number"); },
                 [&](std::optional<int64_t>*) { return "integer" + or_word; },
                 [&](std::optional<double>*) { return "number" + or_word; },
                 [&](std::string*) {
                   return field.words.empty() ? std::string("text")
                                              : "one of " + shortened_list(field.words, width);
                 },
                 [](std::vector<std::string>*) { return std::string("list of texts"); },
                 [](LayerSet*) {
                   return std::string("none, all, {every: n} or a list of layers like [1, 3]");
                 },
                 [&](const EnumRef&) { return "one of " + shortened_list(field.words, width); }},
      value);
}

std::string range_text(const Field& field) {
  if (field.integers) return fmt::format("{} to {}", field.integers->min, field.integers->max);
  if (field.reals) return fmt::format("{} to {}", field.reals->min, field.reals->max);
  return "";
}

}  // namespace switchyard
