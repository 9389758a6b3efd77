#include "registry/jobs.h"

#include "collectives/launch.h"
#include "collectives/single.h"
#ifdef SWITCHYARD_HAVE_MPI
#include "collectives/mpi/mpi_job.h"
#endif

namespace switchyard {

#ifdef SWITCHYARD_HAVE_MPI
std::unique_ptr<Job> make_job() {
  return launched_by_mpirun() ? make_mpi_job() : make_single_job();
}
const char* built_collectives() { return "single, threaded, mpi"; }
#else
std::unique_ptr<Job> make_job() { return make_single_job(); }
const char* built_collectives() { return "single, threaded"; }
#endif

}  // namespace switchyard
