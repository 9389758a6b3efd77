// How the processes of this job find each other.
#pragma once

#include <memory>

#include "collectives/job.h"

namespace switchyard {

// The ranks that a launcher started, or this process alone. Once a process; see Job.
// Throws ConfigError when several ranks were meant and one was found.
std::unique_ptr<Job> make_job();

// The collectives of this build, for `doctor`: "single, threaded, mpi".
const char* built_collectives();

}  // namespace switchyard
