// The ranks that mpirun started. Names no type of MPI, so that the registry can offer it.
#pragma once

#include <cstdint>
#include <memory>

#include "collectives/job.h"

namespace switchyard {

struct MpiLimits {
  // MPI 3.1 counts in int: what is longer travels in pieces of this many bytes.
  int64_t message_bytes = int64_t{1} << 30;
  // Reductions pass on this many bytes a rank at a time, the size at which Open MPI's shared
  // memory transport is fastest; it also bounds their scratch memory (times the ranks).
  int64_t reduction_bytes = 256 << 10;
  // Tensors up to this size are reduced in one step: every rank receives all and adds them up.
  int64_t small_bytes = 8 << 10;
};

// Initialises MPI on the calling thread, which must do everything with world(); sets its
// current_rank(). One a process, ever. When it is destroyed because of an exception that passes
// through, the job ends (kRankLost) instead of waiting for ranks that will never come.
// Throws ConfigError when the launcher meant several ranks and MPI sees one (launch.h), RankError
// when MPI fails.
std::unique_ptr<Job> make_mpi_job(const MpiLimits& limits = {});

}  // namespace switchyard
