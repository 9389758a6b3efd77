// Ranks as threads of one process. Deterministic: sums are made in rank order, each piece once, so
// all ranks hold the same bits. For tests, and for runs of several ranks without a launcher.
#pragma once

#include <functional>

#include "collectives/collectives.h"

namespace switchyard {

// Runs body(world) on `ranks` threads, each with its current_rank(), and returns when all have
// ended.
//
// When a body throws, or calls abort() on any group, the operations that other ranks are waiting
// in, and those they call next, throw RankError. So do operations that wait for a rank whose body
// has returned. The caller gets the error of the rank that failed first, not those that followed:
// an Error keeps its type and text and has the rank added to where(); any other std::exception
// becomes an Error(kDefect) with its text, std::bad_alloc a SpaceError.
// Ranks that disagree about an operation (its kind, dtype, counts) all get Error(kDefect).
void run_threaded_ranks(int ranks, const std::function<void(Collectives& world)>& body);

}  // namespace switchyard
