#include <charconv>

#include "base/host_name.h"
#include "base/log.h"
#include "cli/verbs.h"
#include "registry/choices.h"
#include "registry/jobs.h"

namespace switchyard {

void ConfigArguments::add_to(CommandLine::Verb& verb) {
  verb.positional("CONFIG", path, "YAML file; see configs/")
      .repeated("--set", overrides, "KEY=VALUE", "Overrides a key: --set train.steps=100");
}

Config ConfigArguments::load() const { return load_config(path, overrides, choice_tables()); }

int64_t parse_count(const char* flag, const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) {
    throw ConfigError(fmt::format("{} {} is no number", flag, text), "",
                      "give a whole number from 0");
  }
  return number;
}

double parse_number(const char* flag, const std::string& text, double low, double high) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool parsed = error == std::errc() && end == text.data() + text.size();
  if (parsed && number >= low && number <= high) return number;
  throw ConfigError(fmt::format("{} {} is {}", flag, text, parsed ? "out of range" : "no number"),
                    "", fmt::format("allowed: {} to {}", low, high));
}

void report_error(const Error& error, int rank, int ranks, bool prints) {
  std::string where = error.where();
  if (ranks > 1 && where.find("rank ") == std::string::npos) {
    where += fmt::format("{}rank {} of {}, host {}", where.empty() ? "" : ", ", rank, ranks,
                         host_name());
  }
  const Error located(error.exit_code(), error.summary(), where, error.advice());
  log_error(located.what(), prints);
}

void run_in_job(const std::function<void(Job&)>& body) {
  const std::unique_ptr<Job> job = make_job();
  const int rank = job->world().rank(), ranks = job->world().size();
  const auto fail = [&](const Error& error) {
    report_error(error, rank, ranks, job->claim_report());
    std::fflush(stdout);
    job->abort(error.exit_code());
    std::_Exit(static_cast<int>(error.exit_code()));
  };
  try {
    body(*job);
  } catch (const Error& error) {
    fail(error);
  } catch (const std::bad_alloc&) {
    fail(SpaceError("out of memory", "", "use a smaller model or batch, or more ranks"));
  } catch (const std::exception& error) {
    fail(Error(ExitCode::kDefect, error.what()));
  }
}

}  // namespace switchyard
