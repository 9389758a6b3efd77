// switchyard: one binary, one verb at a time. Every error ends here.
#include "cli/verbs.h"

namespace switchyard {

static int run_program(int argc, char** argv) {
  CommandLine line("switchyard",
                   "Switchyard trains Mixture-of-Experts transformers from a YAML file.\n"
                   "A normal start:  mpirun -np 2 switchyard train configs/quickstart.yaml");
  add_init(line);
  add_config(line);
  add_data(line);
  add_train(line);
  add_eval(line);
  add_generate(line);
  add_logits(line);
  add_convert(line);
  add_report(line);
  add_verify(line);
  add_bench(line);
  add_checkpoint(line);
  add_average(line);
  add_doctor(line);
  add_help(line);
  add_version(line);
  if (const std::function<ExitCode()> action = line.parse(argc, argv)) {
    return static_cast<int>(action());
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace switchyard

int main(int argc, char** argv) {
  using switchyard::Error;
  try {
    return switchyard::run_program(argc, argv);
  } catch (const Error& error) {
    switchyard::report_error(error, 0, 1, true);
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    switchyard::report_error(Error(switchyard::ExitCode::kDefect, error.what()), 0, 1, true);
    return static_cast<int>(switchyard::ExitCode::kDefect);
  }
}
