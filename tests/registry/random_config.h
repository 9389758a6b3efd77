// Random configs for tests: each key that describe() names may stand in it, with a value that fits;
// then a few things may be spoilt. What the whole means, rules between keys included, is not its
// business.
#pragma once

#include <random>

#include "config/config.h"
#include "config/fields.h"
#include "config/yaml_node.h"

namespace switchyard::test {

class RandomConfig : public Fields {
 public:
  RandomConfig(uint32_t seed, const ChoiceTables& tables) : random_(seed), tables_(tables) {}

  YamlNode draw();
  // Renames a key, or replaces what it gives by something of any kind.
  void spoil(YamlNode& root);

  void inert_if(bool, std::initializer_list<const char*>, const std::string&) override {}

 protected:
  bool changes_values() const override { return false; }
  void visit(const Field& field, const ValueRef& value) override;
  void enter_section(const Field& field) override;
  bool enter_optional(const Field& field, bool present, const std::string& start_path) override;
  std::optional<size_t> enter_list(const Field& field, size_t present) override;
  void enter_element(size_t index) override;
  void visit_choice(const Field& field, const std::string& kind, Choice& value) override;
  void visit_base_files(const Field&) override {}  // names files, which aren't there
  void leave() override;
  std::vector<std::string> names_in(const std::string& kind) const override;

 private:
  struct Level {
    YamlNode node;
    bool kept = true;  // whether leave() adds it to what is around
  };

  bool chance(double share) { return std::uniform_real_distribution<>(0, 1)(random_) < share; }
  size_t below(size_t count) { return random_() % count; }
  std::string integer(const Range<int64_t>& range);
  std::string real(const Range<double>& range);
  YamlNode layers(const Field& field);
  YamlNode text();
  YamlNode texts();
  void open(const std::string& key, YamlNode::Kind kind, double share);
  void add(YamlNode node, const std::string& key);

  std::mt19937 random_;
  const ChoiceTables& tables_;
  std::vector<Level> levels_;
};

}  // namespace switchyard::test
