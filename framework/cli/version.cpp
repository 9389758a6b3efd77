#include "base/version.h"

#include <fmt/core.h>

#include "cli/verbs.h"

namespace switchyard {

void add_version(CommandLine& line) {
  line.verb("version", "Print the version").runs([] { fmt::print("switchyard {}\n", kVersion); });
}

}  // namespace switchyard
