// A rank that fails among devices, for collectives/mpirun/failing_ranks.sh: nccl_failing_ranks MODE
// STAMP_FILE
//   one       rank 1 throws while the others wait for it
//   abort     rank 1 calls abort() on a group
//   link      NCCL loses rank 1's partner and nobody throws
//   mismatch  rank 1 calls another operation than the others
//   lengths   rank 1 sends fewer rows than rank 0 takes
// The failing rank touches STAMP_FILE first.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "backends/cuda/cuda_memory.h"
#include "backends/cuda/cuda_stream.h"
#include "collectives/mpi/mpi_job.h"
#include "collectives/nccl/nccl.h"
#include "tensor/tensor.h"

using namespace switchyard;  // NOLINT: a program of one file

static void run(Collectives& host, const std::string& mode, const std::string& stamp_file) {
  cuda::CudaMemory memory(0);
  cuda::CudaStream stream(memory);
  const auto world = make_nccl_collectives(host);
  const auto group = world->split(0);
  const Tensor x(DType::kFloat32, {1000}, memory);
  const auto sum = [&](Collectives& ranks) {
    ranks.all_reduce(stream, x, ReduceOp::kSum)->wait();
    stream.synchronize();
  };
  sum(*group);
  host.barrier();
  const bool fails = host.rank() == 1;
  if (fails) std::ofstream(stamp_file) << "failing\n";
  if (mode == "one" && fails) {
    throw InputError("the corpus is torn", "corpus.bin", "build it again");
  }
  if (mode == "abort" && fails) group->abort("I give up");
  if (mode == "mismatch" && fails) {
    world->broadcast(stream, x, 0)->wait();
    stream.synchronize();
  }
  if (mode == "lengths") {
    std::vector<int64_t> send(static_cast<size_t>(host.size()), 0), recv = send;
    if (fails) send[0] = 9;
    if (host.rank() == 0) recv[1] = 10;
    world->all_to_all(stream, x.view().rows(0, fails ? 9 : 0), send,
                      x.view().rows(0, host.rank() == 0 ? 10 : 0), recv);
    stream.synchronize();
  }
  for (;;) sum(*world);
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
  if (arguments[1] == std::string("link")) setenv("NCCL_EMULATION_FAILS", "1:5", 1);
  const auto job = make_mpi_job();
  try {
    run(job->world(), arguments[1], arguments[2]);
  } catch (const Error& e) {
    if (job->claim_report()) {
      std::fprintf(stderr, "error: rank %d: %s\n", job->world().rank(), e.what());
    }
    job->abort(e.exit_code());
  }
  return 0;
}
