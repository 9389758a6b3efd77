// switchyard: one binary, one verb at a time. Every error ends here.
#include <fmt/core.h>

#include "base/version.h"
#include "cli/verbs.h"

namespace switchyard {

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
