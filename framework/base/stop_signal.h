// A request from outside to stop: SIGUSR1, which mpirun hands on to all ranks, or SIGTERM. It only
// sets a flag; those who work on something look at it when they come to a place where they can
// stop.
#pragma once

#include <string_view>

namespace switchyard {

// From now on the first of these signals is a request. Another one more than a second later ends
// the process as if nobody had caught it; until then it is taken for the same request, since a
// batch system and mpirun may both deliver it.
void catch_stop_signals();

// The signal that has come, SIGUSR1 or SIGTERM; 0 while none has.
int stop_signal();

std::string_view signal_name(int signal);  // "SIGUSR1"

}  // namespace switchyard
