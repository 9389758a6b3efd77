#include "base/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace switchyard {

static int columns_of(int descriptor) {
  winsize size{};
  return ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::optional<int> terminal_columns(int descriptor) {
  const std::string_view kind = environment("TERM");
  if (kind.empty() || kind == "dumb" || ::isatty(descriptor) == 0) return {};
  int columns = columns_of(descriptor);
  if (columns == 0) return {};
  // mpirun's pseudo-terminals keep the width of the start; the user's own knows today's.
  const int controlling = ::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (controlling >= 0) {
    if (const int today = columns_of(controlling)) columns = today;
    ::close(controlling);
  }
  return columns;
}

bool terminal_colours(int descriptor) {
  return environment("NO_COLOR").empty() && terminal_columns(descriptor).has_value();
}

}  // namespace switchyard
