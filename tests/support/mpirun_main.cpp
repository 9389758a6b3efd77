#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

#include "collectives/mpi/mpi_job.h"
#include "support/mpirun_job.h"

namespace switchyard {

static Job* job_of_process = nullptr;

Job& mpirun_job() { return *job_of_process; }

// What ranks other than 0 print: only what failed. The test's name is kept from its start, since
// asking for it while a failure is reported waits for ever.
class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override { test_ = test.name(); }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d, %s: %s:%d: %s\n", job_of_process->world().rank(), test_.c_str(),
                 result.file_name(), result.line_number(), result.message());
  }
  std::string test_;
};

// --message_bytes=N and the like: MPI's limits lowered, so that small tensors travel in pieces.
static MpiLimits limits_from(int count, char** arguments) {
  MpiLimits limits;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const auto equals = argument.find('=');
    const std::string key = argument.substr(0, equals);
    if (key == "--message_bytes") limits.message_bytes = std::stoll(argument.substr(equals + 1));
    if (key == "--reduction_bytes") {
      limits.reduction_bytes = std::stoll(argument.substr(equals + 1));
    }
    if (key == "--small_bytes") limits.small_bytes = std::stoll(argument.substr(equals + 1));
  }
  return limits;
}

static int run_tests(int count, char** arguments) {
  const auto job = make_mpi_job(limits_from(count, arguments));
  job_of_process = job.get();
  GTEST_FLAG_SET(catch_exceptions, false);  // going on after one would leave the ranks out of step
  if (job->world().rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter);
  }
  try {
    return RUN_ALL_TESTS();
  } catch (const std::exception& e) {
    if (job->claim_report()) {
      std::fprintf(stderr, "rank %d: %s\n", job->world().rank(), e.what());
    }
    job->abort(ExitCode::kDefect);
    return 1;
  }
}

}  // namespace switchyard

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  return switchyard::run_tests(count, arguments);
}
