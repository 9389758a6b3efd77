// Asking a run to stop, on one rank; tests/cli/mpirun has the same with two.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/stop_signal.h"
#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Signals : public testing::TestWithParam<std::string> {};

TEST_P(Signals, EndTheRunAfterACheckpointAndItGoesOn) {
  const Program whole, stopped;
  whole.build_dataset();
  stopped.build_dataset();
  const std::string train = "$SWITCHYARD train small.yaml --set train.evaluate_every=none ";
  // Sent twice, as by a batch system that tells a launcher and its ranks.
  const std::string kill = "kill -" + GetParam() + " $job; ";
  const Outcome outcome = stopped.shell(train + "--set train.steps=100000 & job=$!; " +
                                        kUntilTrained + kill + kill + "wait $job");
  EXPECT_EQ(outcome.exit_code, 7) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("stopped by SIG" + GetParam() + " after step "));
  EXPECT_THAT(outcome.out, HasSubstr("report: runs/small/report.html"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("error")));
  const size_t made = stopped.losses().size();
  const std::string more = train + "--set train.steps=" + std::to_string(made + 2);
  const Outcome resumed = stopped.shell(more);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resuming after step " + std::to_string(made) + " from"));
  ASSERT_EQ(whole.shell(more).exit_code, 0);
  EXPECT_EQ(stopped.losses(), whole.losses());
}

INSTANTIATE_TEST_SUITE_P(All, Signals, testing::Values("USR1", "TERM"),
                         [](const auto& tested) { return tested.param; });

// The first request is remembered, its echo ignored, a later one ends the process.
TEST(StopSignals, ASecondRequestEndsTheProcess) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    catch_stop_signals();
    if (stop_signal() != 0) ::_exit(1);
    ::raise(SIGTERM);
    ::raise(SIGUSR1);
    if (stop_signal() != SIGTERM) ::_exit(2);
    const timespec pause{.tv_sec = 1, .tv_nsec = 50'000'000};
    ::nanosleep(&pause, nullptr);
    ::raise(SIGUSR1);
    ::_exit(3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << "exit code " << WEXITSTATUS(status);
  EXPECT_EQ(WTERMSIG(status), SIGUSR1);
}

}  // namespace
}  // namespace switchyard::test
