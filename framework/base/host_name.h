// The name of the machine that this process runs on, up to the first dot; "unknown" where it has
// none.
#pragma once

#include <string>

namespace switchyard {

std::string host_name();

}  // namespace switchyard
