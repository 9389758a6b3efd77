#include "collectives/launch.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/errors.h"

namespace switchyard {

bool launched_by_mpirun() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

// The first of the launchers' counts that is set, and its variable.
static const char* launcher_variable() {
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    if (std::getenv(name) != nullptr) return name;
  }
  return nullptr;
}

// What a variable says, or `otherwise` where it says nothing.
static int number_in(const char* variable, int otherwise) {
  const char* text = variable == nullptr ? nullptr : std::getenv(variable);
  int number = otherwise;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

int ranks_meant() { return std::max(1, number_in(launcher_variable(), 1)); }

int rank_on_this_node() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}) {
    if (std::getenv(name) != nullptr) return std::max(0, number_in(name, 0));
  }
  return 0;
}

void check_ranks_found_each_other(int world_size) {
  const int meant = ranks_meant();
  if (world_size != 1 || meant == 1) return;
  const std::string variable = launcher_variable();
  throw ConfigError(
      std::to_string(meant) + " ranks were started, but they do not find each other",
      "the environment: " + variable + "=" + std::to_string(meant),
      variable.starts_with("SLURM")
          ? "start them with mpirun, or with srun --mpi=pmix; for one rank use srun -n 1"
          : "the launcher is not the one of the MPI in this build: see switchyard doctor");
}

}  // namespace switchyard
