// Whether a stream of this process goes to a terminal that somebody looks at, and what it can do.
// Asked anew at each call.
#pragma once

#include <optional>

namespace switchyard {

// The width in columns of the terminal behind a file descriptor. Empty for pipes and files, for
// TERM=dumb or none, and for a terminal without width: that is what mpirun gives its ranks while
// its own output goes to a file.
std::optional<int> terminal_columns(int descriptor);

// Whether to colour words there: a terminal as above, and NO_COLOR is not set (no-color.org).
bool terminal_colours(int descriptor);

}  // namespace switchyard
