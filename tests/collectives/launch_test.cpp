#include "collectives/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "collectives/single.h"

namespace switchyard {
namespace {

// The launchers' variables are exactly these, until the end of the scope.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<const char*, const char*>> variables) {
    for (const char* name :
         {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "SLURM_STEP_NUM_TASKS",
          "SLURM_NTASKS", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      unsetenv(name);
      names_.push_back(name);
    }
    for (const auto& [name, value] : variables) setenv(name, value, 1);
  }
  ~Environment() {
    for (const auto& name : names_) unsetenv(name.c_str());
    for (const auto& [name, value] : before_) setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::string> before_;
};

TEST(Launch, RecognisesLaunchers) {
  {
    const Environment none{};
    EXPECT_FALSE(launched_by_mpirun());
    EXPECT_EQ(ranks_meant(), 1);
  }
  {
    const Environment mpirun{{"OMPI_COMM_WORLD_SIZE", "4"}};
    EXPECT_TRUE(launched_by_mpirun());
    EXPECT_EQ(ranks_meant(), 4);
  }
  {
    const Environment srun{{"PMIX_RANK", "0"}, {"SLURM_STEP_NUM_TASKS", "8"}};
    EXPECT_TRUE(launched_by_mpirun());
    EXPECT_EQ(ranks_meant(), 8);
  }
}

TEST(Launch, KnowsTheRankOnItsMachine) {
  {
    const Environment none{};
    EXPECT_EQ(rank_on_this_node(), 0);
  }
  {
    const Environment mpirun_in_a_job_step{{"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                                           {"SLURM_LOCALID", "0"}};
    EXPECT_EQ(rank_on_this_node(), 3);
  }
  {
    const Environment srun{{"SLURM_LOCALID", "5"}};
    EXPECT_EQ(rank_on_this_node(), 5);
  }
}

TEST(Launch, TheNearestLauncherCounts) {
  const Environment one_rank_in_a_large_allocation{
      {"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_NTASKS", "8"}};
  EXPECT_EQ(ranks_meant(), 1);
  EXPECT_NO_THROW(check_ranks_found_each_other(1));
}

TEST(Launch, RefusesSlurmTasksThatEachSeeThemselvesOnly) {
  const Environment srun_without_mpi{{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_NTASKS", "8"}};
  EXPECT_FALSE(launched_by_mpirun());
  EXPECT_NO_THROW(check_ranks_found_each_other(8));
  try {
    make_single_job();
    FAIL() << "eight ranks would each run the whole job";
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.summary(), testing::HasSubstr("8 ranks"));
    EXPECT_THAT(e.where(), testing::HasSubstr("SLURM_STEP_NUM_TASKS=8"));
    EXPECT_THAT(e.advice(), testing::HasSubstr("srun --mpi=pmix"));
  }
}

TEST(Launch, RefusesAnotherMpisLauncher) {
  const Environment foreign{{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}};
  EXPECT_THROW(check_ranks_found_each_other(1), ConfigError);
}

TEST(Launch, NonsenseCountsAsOneRank) {
  const Environment nonsense{{"SLURM_NTASKS", "many"}};
  EXPECT_EQ(ranks_meant(), 1);
  EXPECT_NO_THROW(make_single_job());
}

}  // namespace
}  // namespace switchyard
