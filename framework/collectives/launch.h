// What the environment says about how this process was started. Needs no MPI, so that a build
// without it, too, notices that it was started as one of several.
#pragma once

namespace switchyard {

// Whether mpirun, or srun with a process manager, started this process as a rank of an MPI job.
bool launched_by_mpirun();

// How many ranks the launcher meant to start, as far as the environment tells; 1 without one.
// mpirun's word counts before Slurm's, the Slurm job step's before the allocation's.
int ranks_meant();

// This rank's number among those that the launcher started on this machine, from 0.
int rank_on_this_node();

// Every rank found itself alone where the launcher meant several: each would train the whole job
// by itself. Call it with the number of ranks in the world.
// Throws ConfigError.
void check_ranks_found_each_other(int world_size);

}  // namespace switchyard
