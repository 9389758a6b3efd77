// Runs the switchyard binary in a directory of its own, on a small dataset made on the spot.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/temporary_directory.h"

namespace switchyard::test {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
  double seconds = 0;
};

// Lets the shell wait until the run that it has started in the background has made some steps.
inline const std::string kUntilTrained =
    "until [ \"$(cat runs/small/metrics.jsonl | wc -l)\" -gt 20 ]; do sleep 0.02; done "
    "2> /dev/null; ";

class Program {
 public:
  // Writes text in two languages and small.yaml; builds no dataset.
  Program();

  // Runs `switchyard ARGUMENTS` there.
  Outcome run(const std::string& arguments) const;
  // Runs a shell line there in which $SWITCHYARD is the program.
  Outcome shell(const std::string& line) const;
  // As shell(), with all three streams on a pseudo-terminal of that width; `out` has what came out
  // of it, escape sequences and all.
  Outcome on_terminal(const std::string& line, int columns) const;
  // Builds the dataset of small.yaml; a failed expectation where that fails.
  void build_dataset() const;

  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }
  void write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  // small.yaml with one text replaced by another, which must be there, written to `name`.
  void write_config_with(const std::string& name, const std::string& what,
                         const std::string& by) const;
  // The lines of runs/small/metrics.jsonl, and the losses of the steps among them.
  std::vector<nlohmann::json> metrics() const;
  std::vector<double> losses() const;

 private:
  TemporaryDirectory directory_;
};

}  // namespace switchyard::test
