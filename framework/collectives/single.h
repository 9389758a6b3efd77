// One rank by itself. Every operation does its copies, so that no caller needs a special case.
#pragma once

#include <memory>

#include "collectives/collectives.h"

namespace switchyard {

std::unique_ptr<Collectives> make_single_collectives();

}  // namespace switchyard
