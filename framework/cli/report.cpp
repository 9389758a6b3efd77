#include <fmt/core.h>

#include "cli/verbs.h"
#include "report/html_report.h"

namespace switchyard {

void add_report(CommandLine& line) {
  auto directory = std::make_shared<std::string>();
  auto verb = line.verb("report", "Make a run's report.html again, from what lies in its folder");
  verb.positional("RUN_DIR", *directory, "A run's folder, such as runs/quickstart")
      .example("switchyard report runs/quickstart")
      .runs([directory] { fmt::print("{}\n", write_html_report(*directory).string()); });
}

}  // namespace switchyard
