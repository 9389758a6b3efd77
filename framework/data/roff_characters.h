// The special characters of roff: what stands in \(xx and \[name].
#pragma once

#include <string>
#include <string_view>

namespace switchyard {

// Appends the character called `name` ("co", "u00e9", "u0065_0301", "char233", "'e"); an unknown
// name appends nothing and returns false.
bool append_roff_character(std::string_view name, std::string& to);

}  // namespace switchyard
