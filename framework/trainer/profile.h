// From what each rank's tracer saw to what the job reports.
#pragma once

#include <filesystem>
#include <string>

#include "base/tracer.h"
#include "collectives/collectives.h"
#include "report/records.h"

namespace switchyard {

// Every rank calls it, with as many outermost spans (steps); the same record on each.
//   step  updates made so far
ProfileRecord profile_of(Collectives& world, const Tracer& tracer, int64_t step);

// Writes all ranks' spans as one Chrome trace. Every rank calls it; rank 0 writes the file and
// throws SpaceError where it can't, after the others are done.
//   run  its name
void write_trace(Collectives& world, const Tracer& tracer, const std::filesystem::path& path,
                 const std::string& run);

}  // namespace switchyard
