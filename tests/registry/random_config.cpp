#include "random_config.h"

#include <fmt/format.h>

#include "base/overloaded.h"

namespace switchyard::test {
namespace {

constexpr double kKeyShare = 0.3, kSectionShare = 0.6;

YamlNode scalar(const std::string& text, bool quoted = false) {
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.text = text;
  node.quoted = quoted;
  return node;
}

void collect(YamlNode& node, std::vector<YamlNode*>& found) {
  for (YamlNode& item : node.items) {
    found.push_back(&item);
    collect(item, found);
  }
}

}  // namespace

YamlNode RandomConfig::draw() {
  levels_.clear();
  levels_.push_back({{.kind = YamlNode::Kind::kMap}});
  Config defaults;
  defaults.describe(*this);
  return std::move(levels_.back().node);
}

void RandomConfig::spoil(YamlNode& root) {
  std::vector<YamlNode*> nodes;
  collect(root, nodes);
  if (nodes.empty()) return;
  YamlNode& node = *nodes[below(nodes.size())];
  if (!node.key.empty() && chance(0.25)) {
    node.key += below(2) == 0 ? "s" : "_x";
    return;
  }
  const std::string numbers[] = {"-1",     "0",    "3",    "1.5", "1000000000000",
                                 "-0.001", "1e30", "1e-9", "65",  "9007199254740993"};
  YamlNode value;
  switch (below(6)) {
    case 0:
      value = scalar(numbers[below(std::size(numbers))]);
      break;
    case 1:
      value = scalar("zebra");
      break;
    case 2:
      value = scalar(below(2) == 0 ? "true" : "4", /*quoted=*/below(2) == 0);
      break;
    case 3:
      value.kind = YamlNode::Kind::kNull;
      break;
    case 4:
      value.kind = YamlNode::Kind::kSequence;
      value.items = {scalar("3"), scalar(below(2) == 0 ? "3" : "zebra")};
      break;
    default:
      value.kind = YamlNode::Kind::kMap;
      value.items = {scalar("3")};
      value.items[0].key = below(2) == 0 ? "every" : "zebra";
  }
  value.key = node.key;
  node = std::move(value);
}

std::string RandomConfig::integer(const Range<int64_t>& range) {
  if (chance(0.2)) return std::to_string(chance(0.5) ? range.min : range.max);
  return std::to_string(std::uniform_int_distribution<int64_t>(range.min, range.max)(random_));
}

std::string RandomConfig::real(const Range<double>& range) {
  if (chance(0.2)) return fmt::format("{}", chance(0.5) ? range.min : range.max);
  return fmt::format("{}", std::uniform_real_distribution<>(range.min, range.max)(random_));
}

YamlNode RandomConfig::text() {
  const char* const texts[] = {"plain", "a/b.txt", "7", "1.5", "true", "no", "2020-01-01"};
  return scalar(texts[below(std::size(texts))], /*quoted=*/chance(0.3));
}

YamlNode RandomConfig::texts() {
  YamlNode node = scalar("");
  node.kind = YamlNode::Kind::kSequence;
  for (size_t count = below(3); count > 0; --count) node.items.push_back(text());
  return node;
}

YamlNode RandomConfig::layers(const Field& field) {
  YamlNode node = scalar(chance(0.5) ? "none" : "all");
  if (chance(0.4)) {
    node.kind = YamlNode::Kind::kSequence;
    for (int64_t layer = field.integers->min; layer < 3; ++layer)
      if (layer == 0 || chance(0.5)) node.items.push_back(scalar(std::to_string(layer)));
  } else if (chance(0.5)) {
    node.kind = YamlNode::Kind::kMap;
    node.items = {scalar(integer({1, 1024}))};
    node.items[0].key = "every";
  }
  return node;
}

void RandomConfig::visit(const Field& field, const ValueRef& value) {
  if (!chance(kKeyShare)) return;
  const auto word = [&] { return scalar(field.words[below(field.words.size())]); };
  const auto or_word = [&](const std::string& number) {
    return chance(0.3) ? scalar(field.words[0]) : scalar(number);
  };
  add(std::visit(
          Overloaded{[&](bool*) { return scalar(chance(0.5) ? "true" : "false"); },
                     [&](int64_t*) { return scalar(integer(*field.integers)); },
                     [&](double*) { return scalar(real(*field.reals)); },
                     [&](std::optional<int64_t>*) { return or_word(integer(*field.integers)); },
                     [&](std::optional<double>*) { return or_word(real(*field.reals)); },
                     [&](std::string*) { return field.words.empty() ? text() : word(); },
                     [&](std::vector<std::string>*) { return texts(); },
                     [&](LayerSet*) { return layers(field); },
                     [&](const EnumRef&) { return word(); }},
          value),
      field.key);
}

void RandomConfig::add(YamlNode node, const std::string& key) {
  node.key = key;
  levels_.back().node.items.push_back(std::move(node));
}

void RandomConfig::open(const std::string& key, YamlNode::Kind kind, double share) {
  levels_.push_back({{.kind = kind, .key = key}, chance(share)});
}

void RandomConfig::enter_section(const Field& field) {
  open(field.key, YamlNode::Kind::kMap, kSectionShare);
}

bool RandomConfig::enter_optional(const Field& field, bool, const std::string&) {
  enter_section(field);
  return true;
}

std::optional<size_t> RandomConfig::enter_list(const Field& field, size_t) {
  open(field.key, YamlNode::Kind::kSequence, kSectionShare);
  return below(4);
}

void RandomConfig::enter_element(size_t) { open("", YamlNode::Kind::kMap, 1.0); }

void RandomConfig::visit_choice(const Field& field, const std::string& kind, Choice& value) {
  enter_section(field);
  push_path(field.key);
  const std::vector<ChoiceRow>& rows = tables_.rows(kind);
  std::string type = value.type;
  if (chance(0.7)) {
    type = rows[below(rows.size())].name;
    add(scalar(type), "type");
  }
  tables_.find(kind, type)->make()->describe(*this);
  pop_path();
  leave();
}

// Empty sections, which write_yaml would write as {}, become nothing at times, as in a file whose
// keys are all commented out.
void RandomConfig::leave() {
  Level done = std::move(levels_.back());
  levels_.pop_back();
  if (!done.kept) return;
  if (done.node.kind == YamlNode::Kind::kMap && done.node.items.empty() && chance(0.5))
    done.node.kind = YamlNode::Kind::kNull;
  levels_.back().node.items.push_back(std::move(done.node));
}

std::vector<std::string> RandomConfig::names_in(const std::string& kind) const {
  std::vector<std::string> names;
  for (const ChoiceRow& row : tables_.rows(kind)) names.push_back(row.name);
  return names;
}

}  // namespace switchyard::test
