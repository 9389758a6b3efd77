// The visitor that a section's describe() drives: it says each key's name, type, range, unit and
// meaning once; the default is the value in a default-constructed section. Reading, writing, help,
// the reference and the schema are visitors (field_reader.h, field_writer.h, key_docs.h, schema.h).
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "config/choice.h"
#include "config/layer_set.h"

namespace switchyard {

// Both ends are allowed.
template <typename T>
struct Range {
  T min, max;
};

// What a visitor learns about a key besides its value.
struct Field {
  std::string key;   // train_factor
  std::string path;  // moe.capacity.train_factor; list elements: data.sources[0].path
  std::string unit;  // empty where there is none
  std::string meaning;
  std::vector<std::string> words;  // the allowed names; for an optional number, the word for empty
  std::optional<Range<int64_t>> integers;
  std::optional<Range<double>> reals;
};

// An enum by its index in Field::words.
struct EnumRef {
  std::function<size_t()> get;
  std::function<void(size_t)> set;
};

using ValueRef =
    std::variant<bool*, int64_t*, std::optional<int64_t>*, double*, std::optional<double>*,
                 std::string*, std::vector<std::string>*, LayerSet*, EnumRef>;

class Fields {
 public:
  virtual ~Fields() = default;

  void boolean(const char* key, bool& value, const char* meaning);
  void integer(const char* key, int64_t& value, Range<int64_t> range, const char* unit,
               const char* meaning);
  void real(const char* key, double& value, Range<double> range, const char* unit,
            const char* meaning);
  // A number or a word that stands for "empty", such as auto or none.
  void integer_or(const char* word, const char* key, std::optional<int64_t>& value,
                  Range<int64_t> range, const char* unit, const char* meaning);
  void real_or(const char* word, const char* key, std::optional<double>& value, Range<double> range,
               const char* unit, const char* meaning);
  void text(const char* key, std::string& value, const char* meaning);
  // A list of texts, in brackets.
  void texts(const char* key, std::vector<std::string>& value, const char* meaning);
  // One of a few names, each standing for a value of the enum.
  template <typename Enum>
  void one_of(const char* key, Enum& value,
              std::initializer_list<std::pair<Enum, const char*>> names, const char* meaning);
  // The name of a row of the table `kind`.
  void name_in(const char* kind, const char* key, std::string& value, const char* meaning);
  void layers(const char* key, LayerSet& value, const char* meaning);

  template <typename Section>
  void section(const char* key, Section& value, const char* meaning) {
    section_with(key, meaning, [&] { value.describe(*this); });
  }
  // As section(), for a describe that takes more than the visitor.
  void section_with(const char* key, const char* meaning, const std::function<void()>& describe);
  // A section that may be absent. Where it is given, keys it leaves out are as in `start`, which
  // stands at `start_path`; an empty path: nowhere, `start` is the section's own defaults.
  template <typename Section>
  void optional_section(const char* key, std::optional<Section>& value, const Section& start,
                        const char* start_path, const char* meaning);
  // A list of sections.
  template <typename Section>
  void list(const char* key, std::vector<Section>& value, const char* meaning);
  // A section whose `type` is a row of the table `kind`; see choice.h.
  void choice(const char* kind, const char* key, Choice& value, const char* meaning);
  // The key that names the files which a config goes on from. It has no value in the config: it has
  // been followed before anything else is read (base_files.h).
  void base_files(const char* key, const char* meaning);

  // States, after the keys of this section, that `keys` of it have no effect when `condition`
  // holds: giving one of them is then an error, and the resolved config leaves them out.
  //   when  completes "has no effect when ...", e.g. "'tokens' is set"
  virtual void inert_if(bool condition, std::initializer_list<const char*> keys,
                        const std::string& when) = 0;

 protected:
  // Visitors that only look must leave what they are given unchanged.
  virtual bool changes_values() const = 0;
  virtual void visit(const Field& field, const ValueRef& value) = 0;
  virtual void enter_section(const Field& field) = 0;
  // Returns whether to visit the keys of the section; if not, leave() isn't called.
  virtual bool enter_optional(const Field& field, bool present, const std::string& start_path) = 0;
  // Returns the number of fresh elements to visit, or nothing to visit those that are there.
  virtual std::optional<size_t> enter_list(const Field& field, size_t present) = 0;
  virtual void enter_element(size_t index) = 0;
  virtual void visit_choice(const Field& field, const std::string& kind, Choice& value) = 0;
  virtual void visit_base_files(const Field& field) = 0;
  // Ends the innermost section, list or element.
  virtual void leave() = 0;
  // The names of a table's rows; empty where the visitor has no use for them.
  virtual std::vector<std::string> names_in(const std::string& kind) const = 0;

  // For visit_choice: what comes until the matching pop_path has `field.path` in front.
  void push_path(const std::string& key);
  void push_index(size_t index);
  void pop_path();
  const std::string& path() const { return path_; }

 private:
  Field make_field(const char* key, const char* meaning) const;
  void visit_words(Field field, std::vector<std::string> words, const EnumRef& value);

  std::string path_;
  std::vector<size_t> path_lengths_;
};

template <typename Enum>
void Fields::one_of(const char* key, Enum& value,
                    std::initializer_list<std::pair<Enum, const char*>> names,
                    const char* meaning) {
  std::vector<std::string> words;
  for (const auto& [unused, name] : names) words.emplace_back(name);
  const EnumRef reference{[&] {
                            size_t index = 0;
                            while (index < names.size() && names.begin()[index].first != value)
                              ++index;
                            return index;
                          },
                          [&](size_t index) { value = names.begin()[index].first; }};
  visit_words(make_field(key, meaning), std::move(words), reference);
}

template <typename Section>
void Fields::optional_section(const char* key, std::optional<Section>& value, const Section& start,
                              const char* start_path, const char* meaning) {
  if (!enter_optional(make_field(key, meaning), value.has_value(), start_path)) return;
  push_path(key);
  Section section = value.value_or(start);
  section.describe(*this);
  leave();
  pop_path();
  if (changes_values()) value = std::move(section);
}

template <typename Section>
void Fields::list(const char* key, std::vector<Section>& value, const char* meaning) {
  const std::optional<size_t> fresh = enter_list(make_field(key, meaning), value.size());
  push_path(key);
  std::vector<Section> elements = fresh ? std::vector<Section>(*fresh) : value;
  for (size_t i = 0; i < elements.size(); ++i) {
    push_index(i);
    enter_element(i);
    elements[i].describe(*this);
    leave();
    pop_path();
  }
  leave();
  pop_path();
  if (changes_values()) value = std::move(elements);
}

}  // namespace switchyard
