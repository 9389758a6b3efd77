// Collects described sections into a YAML tree: the resolved config, without keys that have no
// effect.
#pragma once

#include <string>
#include <vector>

#include "config/fields.h"
#include "config/yaml_node.h"

namespace switchyard {

class FieldWriter : public Fields {
 public:
  // Visits but doesn't change `root_section`.
  template <typename Section>
  YamlNode write(Section& root_section) {
    levels_.push_back(new_map(""));
    root_section.describe(*this);
    YamlNode root = std::move(levels_.back());
    levels_.pop_back();
    return root;
  }

  void inert_if(bool condition, std::initializer_list<const char*> keys,
                const std::string& when) override;

 protected:
  bool changes_values() const override { return false; }
  void visit(const Field& field, const ValueRef& value) override;
  void enter_section(const Field& field) override;
  bool enter_optional(const Field& field, bool present, const std::string& start_path) override;
  std::optional<size_t> enter_list(const Field& field, size_t present) override;
  void enter_element(size_t index) override;
  void visit_choice(const Field& field, const std::string& kind, Choice& value) override;
  void visit_base_files(const Field&) override {}  // their keys are among the others
  void leave() override;
  std::vector<std::string> names_in(const std::string&) const override { return {}; }

 private:
  static YamlNode new_map(const std::string& key);

  std::vector<YamlNode> levels_;
};

}  // namespace switchyard
