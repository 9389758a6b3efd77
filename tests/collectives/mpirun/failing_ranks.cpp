// A rank that fails as in a real run, for failing_ranks.sh: failing_ranks MODE STAMP_FILE
//   one   rank 1 throws while the others wait for it
//   last  the last rank throws while the others compute without a word to MPI
//   all   every rank throws the same
//   exchange  rank 1 throws while the others wait for its rows
//   abort rank 1 calls abort() on a group
// The failing rank touches STAMP_FILE first.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "collectives/mpi/mpi_job.h"
#include "tensor/tensor.h"

using namespace switchyard;  // NOLINT: a program of one file

static void fail(const std::string& stamp_file) {
  std::ofstream(stamp_file) << "failing\n";
  throw InputError("the corpus is torn", "corpus.bin", "build it again");
}

static void run(Collectives& world, const std::string& mode, const std::string& stamp_file) {
  InlineStream stream;
  Tensor x(DType::kFloat32, {1000});
  std::fill_n(x.data<float>(), 1000, 1.0f);
  const auto group = world.split(0);
  group->all_reduce(stream, x, ReduceOp::kSum)->wait();
  if (mode == "all") fail(stamp_file);
  if ((mode == "one" || mode == "exchange") && world.rank() == 1) fail(stamp_file);
  if (mode == "last" && world.rank() == world.size() - 1) fail(stamp_file);
  if (mode == "abort" && world.rank() == 1) {
    std::ofstream(stamp_file) << "failing\n";
    group->abort("I give up");
  }
  if (mode == "last") std::this_thread::sleep_for(std::chrono::minutes(2));
  const std::vector<int64_t> rows(static_cast<size_t>(world.size()), 1000 / world.size());
  const TensorView sent = x.view().rows(0, 1000 / world.size() * world.size());
  Tensor received(DType::kFloat32, sent.shape());
  for (;;) {
    if (mode == "exchange") group->all_to_all(stream, sent, rows, received, rows)->wait();
    group->all_reduce(stream, x, ReduceOp::kSum)->wait();
  }
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
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
