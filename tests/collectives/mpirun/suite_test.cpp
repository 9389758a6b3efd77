#include <gtest/gtest.h>

#include <thread>

#include "base/check.h"
#include "collectives/cases.h"
#include "support/mpirun_job.h"
#include "tensor/tensor.h"

namespace switchyard {
namespace {

class MpirunSuite : public testing::TestWithParam<CollectivesCase> {};

TEST_P(MpirunSuite, Passes) { GetParam().body(mpirun_job().world()); }

INSTANTIATE_TEST_SUITE_P(Collectives, MpirunSuite, testing::ValuesIn(collectives_cases()),
                         [](const auto& instance) { return instance.param.name; });

TEST(MpirunJob, KnowsItsRanks) {
  EXPECT_EQ(mpirun_job().world().name(), "mpi");
  EXPECT_EQ(current_rank(), mpirun_job().world().rank());
  EXPECT_EQ(mpirun_job().ranks_on_this_node(), mpirun_job().world().size());  // tests run on one
}

TEST(MpirunJob, OtherThreadsAreRefused) {
  InlineStream stream;
  Tensor x(DType::kFloat32, {4});
  std::thread([&] {
    EXPECT_THROW(mpirun_job().world().all_reduce(stream, x, ReduceOp::kSum), Error);
  }).join();
}

}  // namespace
}  // namespace switchyard
