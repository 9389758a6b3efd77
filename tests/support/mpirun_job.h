// For tests that run as ranks under mpirun (switchyard_mpirun_test): link switchyard_mpirun_main
// instead of gtest_main. A rank whose test throws ends the job; a failed expectation on any rank
// fails the test. Every rank runs the same tests in the same order.
#pragma once

#include "collectives/job.h"

namespace switchyard {

Job& mpirun_job();

}  // namespace switchyard
