#include "config/fields.h"

#include <fmt/format.h>

namespace switchyard {

const std::vector<ChoiceRow>& ChoiceTables::rows(const std::string& kind) const {
  const auto found = kinds_.find(kind);
  SWITCHYARD_CHECK(found != kinds_.end(), "no table of kind '", kind, "'");
  return found->second;
}

const ChoiceRow* ChoiceTables::find(const std::string& kind, const std::string& name) const {
  for (const ChoiceRow& row : rows(kind))
    if (row.name == name) return &row;
  return nullptr;
}

void Fields::boolean(const char* key, bool& value, const char* meaning) {
  visit(make_field(key, meaning), &value);
}

void Fields::integer(const char* key, int64_t& value, Range<int64_t> range, const char* unit,
                     const char* meaning) {
  Field field = make_field(key, meaning);
  field.unit = unit;
  field.integers = range;
  visit(field, &value);
}

void Fields::integer_or(const char* word, const char* key, std::optional<int64_t>& value,
                        Range<int64_t> range, const char* unit, const char* meaning) {
  Field field = make_field(key, meaning);
  field.unit = unit;
  field.integers = range;
  field.words = {word};
  visit(field, &value);
}

void Fields::real(const char* key, double& value, Range<double> range, const char* unit,
                  const char* meaning) {
  Field field = make_field(key, meaning);
  field.unit = unit;
  field.reals = range;
  visit(field, &value);
}

void Fields::real_or(const char* word, const char* key, std::optional<double>& value,
                     Range<double> range, const char* unit, const char* meaning) {
  Field field = make_field(key, meaning);
  field.unit = unit;
  field.reals = range;
  field.words = {word};
  visit(field, &value);
}

void Fields::text(const char* key, std::string& value, const char* meaning) {
  visit(make_field(key, meaning), &value);
}

void Fields::texts(const char* key, std::vector<std::string>& value, const char* meaning) {
  visit(make_field(key, meaning), &value);
}

void Fields::name_in(const char* kind, const char* key, std::string& value, const char* meaning) {
  Field field = make_field(key, meaning);
  field.words = names_in(kind);
  visit(field, &value);
}

void Fields::layers(const char* key, LayerSet& value, const char* meaning) {
  Field field = make_field(key, meaning);
  field.integers = Range<int64_t>{0, 1023};
  visit(field, &value);
}

void Fields::section_with(const char* key, const char* meaning,
                          const std::function<void()>& describe) {
  enter_section(make_field(key, meaning));
  push_path(key);
  describe();
  leave();
  pop_path();
}

void Fields::choice(const char* kind, const char* key, Choice& value, const char* meaning) {
  Field field = make_field(key, meaning);
  field.words = names_in(kind);
  visit_choice(field, kind, value);
}

void Fields::base_files(const char* key, const char* meaning) {
  visit_base_files(make_field(key, meaning));
}

void Fields::push_path(const std::string& key) {
  path_lengths_.push_back(path_.size());
  if (!path_.empty()) path_ += '.';
  path_ += key;
}

void Fields::push_index(size_t index) {
  path_lengths_.push_back(path_.size());
  path_ += fmt::format("[{}]", index);
}

void Fields::pop_path() {
  path_.resize(path_lengths_.back());
  path_lengths_.pop_back();
}

Field Fields::make_field(const char* key, const char* meaning) const {
  Field field;
  field.key = key;
  field.path = path_.empty() ? key : path_ + "." + key;
  field.meaning = meaning;
  return field;
}

void Fields::visit_words(Field field, std::vector<std::string> words, const EnumRef& value) {
  field.words = std::move(words);
  visit(field, value);
}

}  // namespace switchyard
