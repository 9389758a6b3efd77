#include "verify/layout_list.h"

#include <fmt/format.h>

#include <charconv>

#include "base/errors.h"

namespace switchyard {

std::string VerifyLayout::text() const {
  if (expert_tensor > 1) return fmt::format("{}x{}x{}", ranks, expert_group, expert_tensor);
  return ranks == expert_group ? std::to_string(ranks) : fmt::format("{}x{}", ranks, expert_group);
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> parts = {""};
  for (const char c : list) {
    if (c == ',') {
      parts.emplace_back();
    } else if (c != ' ') {
      parts.back().push_back(c);
    }
  }
  return parts;
}

// Reads "NxPxT" into the numbers, as many as are there; nothing where it is anything else.
static std::vector<int> parse_numbers(const std::string& text) {
  std::vector<int> numbers;
  const char *next = text.data(), *const end = next + text.size();
  while (true) {
    const auto [after, error] = std::from_chars(next, end, numbers.emplace_back());
    if (error != std::errc() || numbers.back() < 1) return {};
    if (after == end) return numbers;
    if (*after != 'x') return {};
    next = after + 1;
  }
}

static VerifyLayout parse_layout(const std::string& text) {
  std::vector<int> numbers = parse_numbers(text);
  if (numbers.empty() || numbers.size() > 3) {
    throw ConfigError("--layouts: '" + text + "' is no layout", "",
                      "write N ranks, or NxP for expert groups of P: --layouts 1,2,4x2");
  }
  if (numbers.size() == 1) numbers.push_back(numbers[0]);
  if (numbers.size() == 2) numbers.push_back(1);
  const VerifyLayout layout{numbers[0], numbers[1], numbers[2]};
  if (layout.ranks % layout.expert_group != 0) {
    throw ConfigError(fmt::format("--layouts {}: expert groups of {} do not divide {} ranks", text,
                                  layout.expert_group, layout.ranks),
                      "", "give a group size that divides the ranks");
  }
  return layout;
}

std::vector<VerifyLayout> parse_layouts(const std::string& list) {
  std::vector<VerifyLayout> layouts;
  for (const std::string& text : split_list(list)) layouts.push_back(parse_layout(text));
  return layouts;
}

}  // namespace switchyard
