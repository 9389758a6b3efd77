// What verify prints of its comparisons.
#pragma once

#include "verify/comparison.h"

namespace switchyard {

struct NamedComparison {
  std::string name;  // of the case
  Comparison result;
};

// A line for each group of tensors that the model has, a column for each case, several tables below
// each other where they are many: "bit-equal" or the largest difference, relative to the tensor's
// largest value.
std::string comparison_table(const std::vector<NamedComparison>& cases);

}  // namespace switchyard
