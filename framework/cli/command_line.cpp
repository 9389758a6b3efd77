#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "config/suggest.h"

namespace switchyard {

struct CommandLine::Parser {
  CLI::App app;
};

static CLI::App& as_app(void* app) { return *static_cast<CLI::App*>(app); }

CommandLine::CommandLine(const std::string& program, const std::string& summary)
    : parser_(new Parser{CLI::App{summary, program}}) {
  parser_->app.require_subcommand(1);
}

CommandLine::~CommandLine() = default;

CommandLine::Verb CommandLine::verb(const std::string& name, const std::string& summary) {
  return Verb(*this, parser_->app.add_subcommand(name, summary));
}

CommandLine::Verb CommandLine::verb(const std::string& group, const std::string& group_summary,
                                    const std::string& name, const std::string& summary) {
  CLI::App* above = nullptr;
  for (CLI::App* known : parser_->app.get_subcommands({})) {
    if (known->get_name() == group) above = known;
  }
  if (above == nullptr) above = parser_->app.add_subcommand(group, group_summary);
  above->require_subcommand(1);
  return Verb(*this, above->add_subcommand(name, summary));
}

CommandLine::Verb& CommandLine::Verb::positional(const std::string& name, std::string& value,
                                                 const std::string& meaning) {
  as_app(app_).add_option(name, value, meaning)->required();
  return *this;
}

CommandLine::Verb& CommandLine::Verb::optional_positional(const std::string& name,
                                                          std::string& value,
                                                          const std::string& meaning) {
  as_app(app_).add_option(name, value, meaning);
  return *this;
}

CommandLine::Verb& CommandLine::Verb::positionals(const std::string& name,
                                                  std::vector<std::string>& values,
                                                  const std::string& meaning) {
  as_app(app_).add_option(name, values, meaning)->required();
  return *this;
}

CommandLine::Verb& CommandLine::Verb::option(const std::string& flag, std::string& value,
                                             const std::string& value_name,
                                             const std::string& meaning) {
  as_app(app_).add_option(flag, value, meaning)->type_name(value_name);
  return *this;
}

CommandLine::Verb& CommandLine::Verb::repeated(const std::string& flag,
                                               std::vector<std::string>& values,
                                               const std::string& value_name,
                                               const std::string& meaning) {
  as_app(app_).add_option(flag, values, meaning)->type_name(value_name)->allow_extra_args(false);
  return *this;
}

CommandLine::Verb& CommandLine::Verb::flag(const std::string& flag, bool& value,
                                           const std::string& meaning) {
  as_app(app_).add_flag(flag, value, meaning);
  return *this;
}

CommandLine::Verb& CommandLine::Verb::example(const std::string& line) {
  as_app(app_).footer("Example:  " + line);
  return *this;
}

CommandLine::Verb& CommandLine::Verb::set_action(std::function<ExitCode()> action) {
  as_app(app_).callback([&line = line_, action] { line.action_ = action; });
  return *this;
}

// CLI11 itself only says that a subcommand is missing.
static void check_verbs(const CLI::App& app, int words, char** word, const std::string& above) {
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    verbs.push_back(verb->get_name());
  if (verbs.empty() || words == 0 || word[0][0] == '-') return;
  const std::string wanted = word[0];
  if (std::find(verbs.begin(), verbs.end(), wanted) == verbs.end())
    throw ConfigError("there is no verb '" + above + printable(wanted) + "'", "",
                      suggestion(wanted, verbs));
  check_verbs(*app.get_subcommand(wanted), words - 1, word + 1, above + wanted + " ");
}

std::function<ExitCode()> CommandLine::parse(int argc, char** argv) {
  check_verbs(parser_->app, argc - 1, argv + 1, "");
  try {
    parser_->app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_help) {
    parser_->app.exit(asked_for_help);
    return {};
  } catch (const CLI::ParseError& error) {
    throw ConfigError(error.what(), "", "see: switchyard --help");
  }
  return action_;
}

// App::help() would give that of the chosen verb.
std::string CommandLine::help() const {
  const CLI::App& app = parser_->app;
  return app.get_formatter()->make_help(&app, app.get_name(), CLI::AppFormatMode::Normal);
}

}  // namespace switchyard
