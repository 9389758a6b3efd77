// The verbs of the command line, one file each. A verb adds its subcommand to the parser; choosing
// it sets `run`, which main() calls once the whole line has been read.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "collectives/job.h"
#include "config/config.h"

namespace switchyard {

void add_data(CommandLine& line);
void add_train(CommandLine& line);
void add_eval(CommandLine& line);
void add_generate(CommandLine& line);
void add_logits(CommandLine& line);
void add_report(CommandLine& line);
void add_bench(CommandLine& line);
void add_verify(CommandLine& line);
void add_checkpoint(CommandLine& line);
void add_average(CommandLine& line);
void add_doctor(CommandLine& line);
void add_config(CommandLine& line);
void add_init(CommandLine& line);
void add_convert(CommandLine& line);
void add_help(CommandLine& line);
void add_version(CommandLine& line);

// What verbs that read a config have in common: CONFIG and --set.
struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;

  void add_to(CommandLine::Verb& verb);
  Config load() const;
};

// The whole number from 0 that an option was given. Throws ConfigError.
int64_t parse_count(const char* flag, const std::string& text);
// The number in [low, high] that an option was given. Throws ConfigError.
double parse_number(const char* flag, const std::string& text, double low, double high);

// Runs `body` on every rank of this job. An error on any rank ends all of them: it is printed once,
// with its rank, and the process ends with its exit code. Without error, returns.
void run_in_job(const std::function<void(Job&)>& body);

// Writes an error as three lines at most to this rank's log file, where one is open, and to
// standard error.
//   rank    of `ranks`, named with its host where there are several
//   prints  whether this rank is the one to print it; else it goes to the file only
void report_error(const Error& error, int rank, int ranks, bool prints);

}  // namespace switchyard
