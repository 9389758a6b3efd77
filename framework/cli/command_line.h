// The command line as the verbs see it. CLI11 stays inside command_line.cpp.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/errors.h"

namespace switchyard {

class CommandLine {
 public:
  CommandLine(const std::string& program, const std::string& summary);
  ~CommandLine();

  // One verb, described step by step. What it fills must outlive parse().
  class Verb {
   public:
    Verb& positional(const std::string& name, std::string& value, const std::string& meaning);
    Verb& optional_positional(const std::string& name, std::string& value,
                              const std::string& meaning);
    // At least one.
    Verb& positionals(const std::string& name, std::vector<std::string>& values,
                      const std::string& meaning);
    Verb& option(const std::string& flag, std::string& value, const std::string& value_name,
                 const std::string& meaning);
    // May be given several times.
    Verb& repeated(const std::string& flag, std::vector<std::string>& values,
                   const std::string& value_name, const std::string& meaning);
    Verb& flag(const std::string& flag, bool& value, const std::string& meaning);
    Verb& example(const std::string& line);
    // What choosing the verb does, once the whole line has been read. An action that returns
    // nothing ends the program with ExitCode::kDone.
    template <typename Action>
    Verb& runs(Action action) {
      if constexpr (std::is_void_v<std::invoke_result_t<Action>>) {
        return set_action([action] {
          action();
          return ExitCode::kDone;
        });
      } else {
        return set_action(action);
      }
    }

   private:
    friend class CommandLine;
    Verb& set_action(std::function<ExitCode()> action);
    Verb(CommandLine& line, void* app) : line_(line), app_(app) {}
    CommandLine& line_;
    void* app_;  // CLI::App
  };

  Verb verb(const std::string& name, const std::string& summary);
  // A verb below another one: `data build`.
  Verb verb(const std::string& group, const std::string& group_summary, const std::string& name,
            const std::string& summary);

  // Reads the line and returns the chosen verb's action; an empty one after printing --help.
  // Throws ConfigError.
  std::function<ExitCode()> parse(int argc, char** argv);

  // What --help prints.
  std::string help() const;

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
  std::function<ExitCode()> action_;
};

}  // namespace switchyard
