#include <fmt/core.h>

#include "base/errors.h"
#include "cli/verbs.h"
#include "report/html_report.h"
#include "report/routing_trace.h"

namespace switchyard {

namespace {

struct ReportArguments {
  std::string what, directory, layer, tokens = "8";
};

void show_routing(const ReportArguments& arguments) {
  std::filesystem::path path = arguments.directory;
  if (std::filesystem::is_directory(path)) path /= kRoutingTraceFile;
  if (!std::filesystem::exists(path)) {
    throw InputError(
        "there is no routing trace", path.string(),
        "train with --trace-routing, or `switchyard eval CONFIG --trace-routing FILE`");
  }
  const auto tokens = static_cast<size_t>(parse_count("--tokens", arguments.tokens));
  fmt::print("{}", routing_table(read_routing_trace(path), arguments.layer, tokens));
}

void report(const ReportArguments& arguments) {
  if (arguments.what == "routing" && !arguments.directory.empty()) return show_routing(arguments);
  if (!arguments.directory.empty()) {
    throw ConfigError("there is no report '" + arguments.what + "'", "switchyard report",
                      "use `switchyard report RUN_DIR` or `switchyard report routing RUN_DIR`");
  }
  fmt::print("{}\n", write_html_report(arguments.what).string());
}

}  // namespace

void add_report(CommandLine& line) {
  auto arguments = std::make_shared<ReportArguments>();
  auto verb = line.verb("report",
                        "Make a run's report.html again, from what lies in its folder; `report "
                        "routing` shows which tokens and labels each expert takes");
  verb.positional("RUN_DIR|routing", arguments->what,
                  "A run's folder, such as runs/quickstart; or routing, and then the folder")
      .optional_positional("RUN_DIR|FILE", arguments->directory,
                           "After routing: the folder of a run with a trace, or a trace")
      .option("--layer", arguments->layer, "NAME", "routing: only this layer")
      .option("--tokens", arguments->tokens, "N", "routing: tokens shown of each expert")
      .example("switchyard report routing runs/quickstart")
      .runs([arguments] { report(*arguments); });
}

}  // namespace switchyard
