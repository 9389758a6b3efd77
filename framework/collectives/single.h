// One rank by itself. Every operation does its copies, so that no caller needs a special case.
#pragma once

#include <memory>

#include "collectives/collectives.h"
#include "collectives/job.h"

namespace switchyard {

std::unique_ptr<Collectives> make_single_collectives();

// A job of this process alone.
// Throws ConfigError when the launcher meant to start several ranks (launch.h).
std::unique_ptr<Job> make_single_job();

}  // namespace switchyard
