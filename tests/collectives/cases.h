// The suite that every implementation of Collectives passes: each case is what one rank does.
// All ranks of the world run the same cases in the same order.
#pragma once

#include <ostream>
#include <vector>

#include "collectives/collectives.h"

namespace switchyard {

struct CollectivesCase {
  const char* name;
  void (*body)(Collectives& world);
};

// What ctest shows of a case.
inline void PrintTo(const CollectivesCase& tested, std::ostream* out) { *out << tested.name; }

const std::vector<CollectivesCase>& collectives_cases();

}  // namespace switchyard
