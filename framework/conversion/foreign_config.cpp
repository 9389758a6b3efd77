#include "conversion/foreign_config.h"

#include <fmt/format.h>

#include "base/errors.h"
#include "safetensors/json_events.h"

namespace switchyard {

namespace {

constexpr size_t kMaxDepth = 32;

// Builds the tree. The elements that are open lie in ones that don't change until they are closed,
// so their addresses stay.
class TreeEvents : public JsonEvents {
 public:
  explicit TreeEvents(nlohmann::json& root) : root_(root) {}

  bool null() override { return put(nullptr) != nullptr; }
  bool boolean(bool value) override { return put(value) != nullptr; }
  bool number_integer(int64_t value) override { return put(value) != nullptr; }
  bool number_unsigned(uint64_t value) override { return put(value) != nullptr; }
  bool number_float(double value, const std::string&) override { return put(value) != nullptr; }
  bool string(std::string& value) override { return put(value) != nullptr; }
  bool start_object(size_t) override { return open(nlohmann::json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(nlohmann::json::array()); }
  bool end_array() override { return close(); }
  bool key(std::string& key) override {
    if (open_.back()->contains(key)) return fail(fmt::format("\"{}\" stands there twice", key));
    key_ = key;
    return true;
  }

 protected:
  bool refuse(std::string_view what) override { return fail(fmt::format("it holds {}", what)); }

 private:
  // Null after a value that has no place.
  nlohmann::json* put(nlohmann::json value) {
    if (open_.empty()) {
      if (!value.is_object()) {
        fail("it holds no object");
        return nullptr;
      }
      root_ = std::move(value);
      return &root_;
    }
    nlohmann::json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }
  bool open(nlohmann::json value) {
    if (open_.size() == kMaxDepth) return fail("nested too deeply");
    nlohmann::json* const placed = put(std::move(value));
    if (placed != nullptr) open_.push_back(placed);
    return placed != nullptr;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  nlohmann::json& root_;
  std::vector<nlohmann::json*> open_;
  std::string key_;
};

// As it stands in the file, cut short.
std::string shown(const nlohmann::json& value) {
  std::string text = value.dump();
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

bool is_off(const nlohmann::json& value) {
  if (value.is_null() || value.empty() || value == "") return true;
  return value.is_boolean() && !value.get<bool>();
}

}  // namespace

nlohmann::json parse_json_object(std::string_view text, const std::string& where) {
  if (text.size() > kMaxForeignConfigBytes) {
    throw CheckpointError(
        fmt::format("{} bytes of JSON, at most {} are read", text.size(), kMaxForeignConfigBytes),
        where);
  }
  nlohmann::json root;
  TreeEvents events(root);
  if (const std::string& problem = events.read(text); !problem.empty()) {
    throw CheckpointError("bad JSON: " + problem, where);
  }
  return root;
}

ForeignConfig ForeignConfig::parse(std::string_view text, const std::string& where) {
  return {parse_json_object(text, where), where};
}

bool ForeignConfig::has(const std::string& key) const {
  return values_.contains(key) && !values_.at(key).is_null();
}

const nlohmann::json* ForeignConfig::take(const std::string& key) {
  read_.insert(key);
  return has(key) ? &values_.at(key) : nullptr;
}

const nlohmann::json& ForeignConfig::need(const std::string& key) {
  const nlohmann::json* const value = take(key);
  if (value == nullptr) {
    throw CheckpointError(fmt::format("the config has no \"{}\"", key), where_,
                          "is it the config.json that belongs to these weights?");
  }
  return *value;
}

void ForeignConfig::refuse(const std::string& key, const std::string& reason) const {
  const std::string value = values_.contains(key) ? shown(values_.at(key)) : "as it is by default";
  throw CheckpointError(fmt::format("\"{}\": {} can't be converted: {}", key, value, reason),
                        where_);
}

void ForeignConfig::refuse_type(const std::string& key, const char* wanted) const {
  throw CheckpointError(fmt::format("\"{}\": {} is no {}", key, shown(values_.at(key)), wanted),
                        where_);
}

int64_t ForeignConfig::integer(const std::string& key, Range<int64_t> range,
                               std::optional<int64_t> absent) {
  if (take(key) == nullptr && absent) return *absent;
  const nlohmann::json& value = need(key);
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX})) {
    refuse_type(key, "whole number");
  }
  const auto number = value.get<int64_t>();
  if (number < range.min || number > range.max) {
    refuse(key, fmt::format("only {} to {} can be expressed", range.min, range.max));
  }
  return number;
}

double ForeignConfig::real(const std::string& key, Range<double> range,
                           std::optional<double> absent) {
  if (take(key) == nullptr && absent) return *absent;
  const nlohmann::json& value = need(key);
  if (!value.is_number()) refuse_type(key, "number");
  const auto number = value.get<double>();
  if (!(number >= range.min && number <= range.max)) {
    refuse(key, fmt::format("only {} to {} can be expressed", range.min, range.max));
  }
  return number;
}

bool ForeignConfig::boolean(const std::string& key, bool absent) {
  const nlohmann::json* const value = take(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) refuse_type(key, "boolean");
  return value->get<bool>();
}

std::string ForeignConfig::text(const std::string& key, const std::string& absent) {
  const nlohmann::json* const value = take(key);
  if (value == nullptr) return absent;
  if (!value->is_string()) refuse_type(key, "text");
  return value->get<std::string>();
}

std::vector<int64_t> ForeignConfig::integers(const std::string& key) {
  const nlohmann::json* const value = take(key);
  if (value == nullptr) return {};
  if (!value->is_array()) refuse_type(key, "list of whole numbers");
  std::vector<int64_t> numbers;
  for (const nlohmann::json& element : *value) {
    if (!element.is_number_unsigned() || element.get<uint64_t>() > uint64_t{INT64_MAX}) {
      refuse_type(key, "list of whole numbers");
    }
    numbers.push_back(element.get<int64_t>());
  }
  return numbers;
}

std::vector<std::string> ForeignConfig::texts(const std::string& key) {
  const nlohmann::json* const value = take(key);
  if (value == nullptr) return {};
  if (!value->is_array()) refuse_type(key, "list of texts");
  std::vector<std::string> list;
  for (const nlohmann::json& element : *value) {
    if (!element.is_string()) refuse_type(key, "list of texts");
    list.push_back(element.get<std::string>());
  }
  return list;
}

nlohmann::json ForeignConfig::object(const std::string& key) {
  const nlohmann::json* const value = take(key);
  if (value == nullptr) return nlohmann::json::object();
  if (!value->is_object()) refuse_type(key, "object");
  return *value;
}

nlohmann::json ForeignConfig::value(const std::string& key) {
  const nlohmann::json* const given = take(key);
  return given == nullptr ? nlohmann::json() : *given;
}

void ForeignConfig::ignore(std::initializer_list<const char*> keys) {
  for (const char* const key : keys) read_.insert(key);
}

void ForeignConfig::only(const std::string& key, const nlohmann::json& value,
                         const std::string& reason) {
  const nlohmann::json* const given = take(key);
  if (given != nullptr && *given != value) refuse(key, reason);
}

std::vector<std::string> ForeignConfig::finish() const {
  std::vector<std::string> off;
  for (const auto& [key, value] : values_.items()) {
    if (read_.contains(key)) continue;
    if (!is_off(value)) {
      throw CheckpointError(
          fmt::format("\"{}\": {} is unknown: whether it changes what the model computes can't be "
                      "told",
                      key, shown(value)),
          where_, "take the key out of the file if it doesn't");
    }
    off.push_back(key);
  }
  return off;
}

}  // namespace switchyard
