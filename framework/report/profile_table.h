// A profile in words: where the time of a step went.
#pragma once

#include <string>
#include <vector>

#include "report/records.h"

namespace switchyard {

// Lines: a heading, the columns' names, each phase that took time, what they account for.
std::vector<std::string> profile_table(const ProfileRecord& record);

}  // namespace switchyard
