// Cases in which a fast backend's work is cut up: of several row, depth, query and gradient blocks.
// Too large for finite differences.
#pragma once

#include "support/op_case.h"

namespace switchyard::test {

const std::vector<OpCase>& large_op_cases();

}  // namespace switchyard::test
