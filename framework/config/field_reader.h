// Fills described sections from a YAML tree, refusing what doesn't fit: unknown keys, wrong types,
// values out of range, keys without effect. Each ConfigError names key, value, place and what to
// do.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "config/fields.h"
#include "config/yaml_node.h"

namespace switchyard {

class FieldReader : public Fields {
 public:
  // The three must outlive the reader.
  //   known_paths  all keys of the config, for suggestions across sections
  FieldReader(const YamlNode& root, const ChoiceTables& tables,
              const std::vector<std::string>& known_paths);

  // Reads the whole tree into `root_section`.
  template <typename Section>
  void read(Section& root_section) {
    enter_node(&root_, "the config");
    root_section.describe(*this);
    leave();
  }

  const Origins& origins() const { return origins_; }

  void inert_if(bool condition, std::initializer_list<const char*> keys,
                const std::string& when) override;

 protected:
  bool changes_values() const override { return true; }
  void visit(const Field& field, const ValueRef& value) override;
  void enter_section(const Field& field) override;
  bool enter_optional(const Field& field, bool present, const std::string& start_path) override;
  std::optional<size_t> enter_list(const Field& field, size_t present) override;
  void enter_element(size_t index) override;
  void visit_choice(const Field& field, const std::string& kind, Choice& value) override;
  void visit_base_files(const Field& field) override;
  void leave() override;
  std::vector<std::string> names_in(const std::string& kind) const override;

 private:
  struct Level {
    const YamlNode* node;  // null where the file has nothing
    std::vector<std::string> keys;
    bool is_list = false;
  };

  const YamlNode* take(const Field& field);
  void enter_node(const YamlNode* node, const std::string& path);
  [[noreturn]] void refuse_unknown(const YamlNode& entry, const Level& level) const;

  const YamlNode& root_;
  const ChoiceTables& tables_;
  const std::vector<std::string>& known_paths_;
  std::vector<Level> levels_;
  Origins origins_;
};

}  // namespace switchyard
