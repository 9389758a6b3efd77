// Layouts as a user writes them: "1,2,4x2,4x4x2".
#pragma once

#include <string>
#include <vector>

namespace switchyard {

// N ranks in expert groups of P, with experts in T slices; see collectives/groups.h.
struct VerifyLayout {
  int ranks = 1, expert_group = 1, expert_tensor = 1;

  std::string text() const;  // "4x2"; "4" for 4x4, "4x4x2" with slices
  bool operator==(const VerifyLayout&) const = default;
};

// Throws ConfigError for what is no layout.
std::vector<VerifyLayout> parse_layouts(const std::string& list);

// The parts of "a,b,c".
std::vector<std::string> split_list(const std::string& list);

}  // namespace switchyard
