#include "base/version.h"

#include <fmt/core.h>

#include "cli/verbs.h"

namespace switchyard {

void add_version(CLI::App& app, Verb& run) {
  auto* verb = app.add_subcommand("version", "Print the version");
  verb->callback([&run] { run = [] { fmt::print("switchyard {}\n", kVersion); }; });
}

}  // namespace switchyard
