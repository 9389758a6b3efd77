// switchyard: one binary, one verb at a time. Every error ends here.
#include <algorithm>

#include "base/version.h"
#include "cli/verbs.h"
#include "config/suggest.h"

namespace switchyard {

// CLI11 only says that a subcommand is missing.
static void check_verb(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands({})) verbs.push_back(verb->get_name());
  if (std::find(verbs.begin(), verbs.end(), argv[1]) != verbs.end()) return;
  throw ConfigError("there is no verb '" + printable(argv[1]) + "'", "",
                    suggestion(argv[1], verbs));
}

static int run_program(int argc, char** argv) {
  CLI::App app{
      "Switchyard trains Mixture-of-Experts transformers from a YAML file.\n"
      "A normal start:  mpirun -np 2 switchyard train configs/quickstart.yaml",
      "switchyard"};
  app.require_subcommand(1);
  Verb run;
  add_data(app, run);
  add_train(app, run);
  add_eval(app, run);
  add_doctor(app, run);
  add_help(app, run);
  add_version(app, run);
  check_verb(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);  // --help
  } catch (const CLI::ParseError& error) {
    throw ConfigError(error.what(), "", "see: switchyard --help");
  }
  run();
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace switchyard

int main(int argc, char** argv) {
  using switchyard::Error;
  try {
    return switchyard::run_program(argc, argv);
  } catch (const Error& error) {
    switchyard::print_error(error, 0, 1);
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    switchyard::print_error(Error(switchyard::ExitCode::kDefect, error.what()), 0, 1);
    return static_cast<int>(switchyard::ExitCode::kDefect);
  }
}
