// Every operation of every kernel interface, in the shapes that go wrong: zero rows, one row, odd
// sizes, experts without rows, ties, masks that hide everything.
#pragma once

#include "support/op_case.h"

namespace switchyard::test {

// All cases, by interface; made on first use.
const std::vector<OpCase>& op_cases();

// The parts of the list, one file each.
void add_product_cases(std::vector<OpCase>& cases);
void add_attention_cases(std::vector<OpCase>& cases);
void add_elementwise_cases(std::vector<OpCase>& cases);
void add_routing_cases(std::vector<OpCase>& cases);
void add_gating_cases(std::vector<OpCase>& cases);

}  // namespace switchyard::test
