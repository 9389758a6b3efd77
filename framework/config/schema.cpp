#include "config/schema.h"

#include <nlohmann/json.hpp>

#include "base/overloaded.h"
#include "config/config.h"
#include "config/fields.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

// Visits a default-constructed config, so that each value seen is the default.
class SchemaWriter : public Fields {
 public:
  explicit SchemaWriter(const ChoiceTables& tables) : tables_(tables) {}

  Json write() {
    levels_.push_back({"", section_schema("A training run of Switchyard.")});
    Config defaults;
    defaults.describe(*this);
    Json root = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "Switchyard config"}};
    root.update(levels_.back().schema);
    return root;
  }

  void inert_if(bool, std::initializer_list<const char*> keys, const std::string& when) override {
    for (const char* key : keys) {
      Json& text = levels_.back().schema["properties"][key]["description"];
      text = text.get<std::string>() + " No effect when " + when + ".";
    }
  }

 protected:
  bool changes_values() const override { return false; }

  void visit(const Field& field, const ValueRef& value) override {
    Json schema = {{"description", described(field)}};
    schema.update(type_schema(field, value));
    const Json standard = default_of(field, value);
    if (standard != "") schema["default"] = standard;
    add(field.key, std::move(schema));
  }

  void enter_section(const Field& field) override {
    levels_.push_back({field.key, section_schema(field.meaning)});
  }
  bool enter_optional(const Field& field, bool, const std::string& start_path) override {
    enter_section(field);
    if (!start_path.empty()) {
      levels_.back().schema["description"] =
          field.meaning + " Keys left out are as in " + start_path + ".";
    }
    return true;
  }
  std::optional<size_t> enter_list(const Field& field, size_t) override {
    levels_.push_back({field.key,
                       {{"description", field.meaning},
                        {"type", "array"},
                        {"default", Json::array()},
                        {"items", nullptr}}});
    return 1;
  }
  void enter_element(size_t) override { levels_.push_back({"", section_schema("")}); }

  void leave() override {
    const Level done = std::move(levels_.back());
    levels_.pop_back();
    if (levels_.back().schema.contains("items")) {
      levels_.back().schema["items"] = done.schema;
    } else {
      add(done.key, done.schema);
    }
  }

  // The section's `type` has all names; each name's options are those of one `if`.
  void visit_choice(const Field& field, const std::string& kind, Choice& value) override {
    Json section = section_schema(field.meaning);
    section.erase("additionalProperties");
    levels_.push_back({field.key, std::move(section)});
    push_path(field.key);
    Field type = field;
    type.key = "type";
    type.meaning.clear();
    for (const ChoiceRow& row : tables_.rows(kind))
      type.meaning += (type.meaning.empty() ? "" : " ") + row.name + ": " + row.meaning + ".";
    visit(type, &value.type);

    Json branches = Json::array();
    for (const ChoiceRow& row : tables_.rows(kind)) {
      levels_.push_back({"", section_schema("")});
      levels_.back().schema["properties"]["type"] = true;
      row.make()->describe(*this);
      Json chosen = {{"properties", {{"type", {{"const", row.name}}}}}};
      if (row.name != value.type) chosen["required"] = {"type"};
      branches.push_back({{"if", chosen},
                          {"then",
                           {{"properties", levels_.back().schema["properties"]},
                            {"additionalProperties", false}}}});
      levels_.pop_back();
    }
    levels_.back().schema["allOf"] = std::move(branches);
    leave();
    pop_path();
  }

  void visit_base_files(const Field& field) override {
    const Json file = {{"type", "string"}, {"minLength", 1}};
    add(field.key,
        {{"description", field.meaning}, {"oneOf", {file, {{"type", "array"}, {"items", file}}}}});
  }

  std::vector<std::string> names_in(const std::string& kind) const override {
    std::vector<std::string> names;
    for (const ChoiceRow& row : tables_.rows(kind)) names.push_back(row.name);
    return names;
  }

 private:
  struct Level {
    std::string key;  // empty for elements of lists
    Json schema;
  };

  // Null too: a section whose keys are all commented out.
  static Json section_schema(const std::string& meaning) {
    Json schema;
    if (!meaning.empty()) schema["description"] = meaning;
    schema["type"] = {"object", "null"};
    schema["properties"] = Json::object();
    schema["additionalProperties"] = false;
    return schema;
  }

  static std::string described(const Field& field) {
    return field.unit.empty() ? field.meaning : field.meaning + " Unit: " + field.unit + ".";
  }

  template <typename T>
  static Json number(const char* type, const Range<T>& range) {
    return {{"type", type}, {"minimum", range.min}, {"maximum", range.max}};
  }

  static Json type_schema(const Field& field, const ValueRef& value) {
    const auto or_word = [&](Json type) {
      return Json{{"oneOf", {std::move(type), {{"const", field.words[0]}}}}};
    };
    const Json names = {{"enum", field.words}};
    return std::visit(
        Overloaded{
            [](bool*) {
              return Json{{"type", "boolean"}};
            },
            [&](int64_t*) { return number("integer", *field.integers); },
            [&](double*) { return number("number", *field.reals); },
            [&](std::optional<int64_t>*) { return or_word(number("integer", *field.integers)); },
            [&](std::optional<double>*) { return or_word(number("number", *field.reals)); },
            // The reader takes any scalar as text: `label: 7`.
            [&](std::string*) {
              return field.words.empty() ? Json{{"type", {"string", "number", "boolean"}}} : names;
            },
            [](std::vector<std::string>*) {
              const Json text = {{"type", {"string", "number", "boolean"}}};
              return Json{{"type", "array"}, {"items", text}};
            },
            [&](LayerSet*) { return layers_schema(*field.integers); },
            [&](const EnumRef&) { return names; }},
        value);
  }

  static Json layers_schema(const Range<int64_t>& layers) {
    const Json step = number("integer", Range<int64_t>{1, layers.max + 1});
    return {{"oneOf",
             {{{"enum", {"none", "all"}}},
              {{"type", "object"},
               {"properties", {{"every", step}}},
               {"required", {"every"}},
               {"additionalProperties", false}},
              {{"type", "array"},
               {"items", number("integer", layers)},
               {"minItems", 1},
               {"uniqueItems", true}}}}};
  }

  static Json default_of(const Field& field, const ValueRef& value) {
    const auto or_word = [&](const auto& optional) {
      return optional ? Json(*optional) : Json(field.words[0]);
    };
    return std::visit(
        Overloaded{[](bool* target) { return Json(*target); },
                   [](int64_t* target) { return Json(*target); },
                   [](double* target) { return Json(*target); },
                   [&](std::optional<int64_t>* target) { return or_word(*target); },
                   [&](std::optional<double>* target) { return or_word(*target); },
                   [](std::string* target) { return Json(*target); },
                   [](std::vector<std::string>* target) { return Json(*target); },
                   [](LayerSet* target) {
                     if (target->step() > 0) return Json{{"every", target->step()}};
                     return target->listed().empty() ? Json(target->text())
                                                     : Json(target->listed());
                   },
                   [&](const EnumRef& target) { return Json(field.words.at(target.get())); }},
        value);
  }

  void add(const std::string& key, Json schema) {
    levels_.back().schema["properties"][key] = std::move(schema);
  }

  const ChoiceTables& tables_;
  std::vector<Level> levels_;
};

}  // namespace

std::string json_schema(const ChoiceTables& tables) {
  return SchemaWriter(tables).write().dump(2) + "\n";
}

}  // namespace switchyard
