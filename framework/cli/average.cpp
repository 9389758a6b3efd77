#include "checkpoint/average.h"

#include <fmt/core.h>

#include "cli/training_run.h"
#include "cli/verbs.h"

namespace switchyard {

namespace {

struct AverageArguments {
  std::vector<std::string> from;
  std::string to;
};

void average(const AverageArguments& arguments) {
  if (arguments.to.empty()) {
    throw ConfigError("--to is missing: the folder that the mean is written to", "",
                      "switchyard average A B --to averaged");
  }
  std::vector<Checkpoint> checkpoints;
  for (const std::string& path : arguments.from) {
    checkpoints.push_back(Checkpoint::open(checkpoint_at(path)));
  }
  const std::filesystem::path mean = average_checkpoints(checkpoints, arguments.to);
  fmt::print("{}: the mean of {} checkpoint{}\n", mean.string(), checkpoints.size(),
             checkpoints.size() == 1 ? "" : "s");
}

}  // namespace

void add_average(CommandLine& line) {
  auto arguments = std::make_shared<AverageArguments>();
  line.verb("average",
            "Write the mean of several checkpoints' weights, for eval, generate and train --from")
      .positionals("DIR", arguments->from, "Checkpoints, or runs' folders: their latest")
      .option("--to", arguments->to, "DIR", "The checkpoint that is written; it must not be there")
      .example("switchyard average runs/a/checkpoints/step-00001000 runs/a --to runs/a-averaged")
      .runs([arguments] { average(*arguments); });
}

}  // namespace switchyard
