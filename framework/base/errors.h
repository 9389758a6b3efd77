// The exceptions of the project and the exit code each one ends the program with.
// Only main() and thread entry points catch; see docs/architecture.md, "Errors".
#pragma once

#include <stdexcept>
#include <string>

namespace switchyard {

// Documented in docs/exit-codes.md; scripts rely on the numbers.
enum class ExitCode : int {
  kDone = 0,
  kDefect = 1,         // a broken precondition inside the program: please report it
  kUsage = 2,          // wrong config or arguments
  kBadData = 3,        // a missing, damaged or unsuitable data file
  kBadCheckpoint = 4,  // a missing, damaged or unsuitable checkpoint
  kNumericalStop = 5,  // loss or gradient not finite
  kRankLost = 6,       // a rank threw, died or hung
  kStopped = 7,        // stopped on request, after a checkpoint
  kNoSpace = 8,        // out of disk or memory
  kLayoutsDiffer = 9,  // verify found two layouts that disagree
};

// What a user reads: at most three lines.
//   error: <what>
//     at <where>       left out when empty; a file:line:column, a file or a place in the job
//     <advice>         left out when empty; what to do
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, std::string what, std::string where = "", std::string advice = "");

  ExitCode exit_code() const { return code_; }
  const std::string& summary() const { return summary_; }
  const std::string& where() const { return where_; }
  const std::string& advice() const { return advice_; }

 private:
  ExitCode code_;
  std::string summary_, where_, advice_;
};

// A wrong key, value or combination in the config or on the command line.
struct ConfigError : Error {
  explicit ConfigError(std::string what, std::string where = "", std::string advice = "")
      : Error(ExitCode::kUsage, std::move(what), std::move(where), std::move(advice)) {}
};

// A missing, damaged or unsuitable data file.
struct InputError : Error {
  explicit InputError(std::string what, std::string where = "", std::string advice = "")
      : Error(ExitCode::kBadData, std::move(what), std::move(where), std::move(advice)) {}
};

struct CheckpointError : Error {
  explicit CheckpointError(std::string what, std::string where = "", std::string advice = "")
      : Error(ExitCode::kBadCheckpoint, std::move(what), std::move(where), std::move(advice)) {}
};

// A loss or gradient that is not finite, when the config says to stop.
struct NumericalError : Error {
  explicit NumericalError(std::string what, std::string where = "", std::string advice = "")
      : Error(ExitCode::kNumericalStop, std::move(what), std::move(where), std::move(advice)) {}
};

// Another rank failed; this one ends with it.
struct RankError : Error {
  explicit RankError(std::string what, std::string where = "", std::string advice = "")
      : Error(ExitCode::kRankLost, std::move(what), std::move(where), std::move(advice)) {}
};

// Disk or memory ran out.
struct SpaceError : Error {
  explicit SpaceError(std::string what, std::string where = "", std::string advice = "")
      : Error(ExitCode::kNoSpace, std::move(what), std::move(where), std::move(advice)) {}
};

}  // namespace switchyard
