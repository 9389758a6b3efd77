#include "verify/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {

static constexpr size_t kColumns = 96;  // of a terminal
static constexpr size_t kFirstColumn = 18;

static std::string difference_text(const Comparison::Difference& difference) {
  if (difference.equal) return "bit-equal";
  return fmt::format("{:.1e}", difference.largest);
}

static std::string table_of(const std::vector<NamedComparison>& cases, size_t width) {
  std::string text = fmt::format("{:{}}", "", kFirstColumn);
  const auto line = [&](const char* first, const auto& cell) {
    text += fmt::format("\n{:{}}", first, kFirstColumn);
    for (const NamedComparison& one : cases) text += fmt::format("{:>{}}", cell(one), width);
  };
  for (const NamedComparison& one : cases) text += fmt::format("{:>{}}", one.name, width);
  for (size_t g = 0; g < kItemGroups; ++g) {
    if (std::ranges::none_of(cases, [&](const auto& one) { return one.result.groups[g].exists; })) {
      continue;
    }
    line(name_of(static_cast<ItemGroup>(g)),
         [&](const NamedComparison& one) { return difference_text(one.result.groups[g]); });
  }
  line("near-tie flips",
       [](const NamedComparison& one) { return std::to_string(one.result.near_ties); });
  line("", [](const NamedComparison& one) { return one.result.failure ? "DIFFERS" : "agrees"; });
  return text + "\n";
}

std::string comparison_table(const std::vector<NamedComparison>& cases) {
  size_t width = 11;
  for (const NamedComparison& one : cases) width = std::max(width, one.name.size() + 2);
  const size_t at_once = std::max<size_t>(1, (kColumns - kFirstColumn) / width);
  std::string text;
  for (size_t first = 0; first < cases.size(); first += at_once) {
    const auto begin = cases.begin() + static_cast<int64_t>(first);
    const auto count = static_cast<int64_t>(std::min(at_once, cases.size() - first));
    text += (text.empty() ? "" : "\n") + table_of({begin, begin + count}, width);
  }
  return text;
}

}  // namespace switchyard
