#include "collectives/threaded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <string>
#include <vector>

#include "base/check.h"
#include "collectives/groups.h"
#include "tensor/tensor.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

InlineStream stream;

void sum_once(Collectives& group) {
  Tensor x(DType::kFloat32, {100});
  std::fill_n(x.data<float>(), 100, 1.0f);
  group.all_reduce(stream, x, ReduceOp::kSum)->wait();
}

// Runs the operation until it fails, as it must once another rank has failed.
std::string failure_of(Collectives& group) {
  try {
    for (;;) sum_once(group);
  } catch (const RankError& e) {
    return e.what();
  }
}

TEST(ThreadedRanks, KnowTheirRank) {
  std::atomic<int> ranks_seen{0};
  run_threaded_ranks(4, [&](Collectives& world) {
    EXPECT_EQ(current_rank(), world.rank());
    ranks_seen += 1 << (8 * world.rank());
  });
  EXPECT_EQ(ranks_seen, 0x01010101);
}

TEST(ThreadedRanks, NobodyPassesABarrierAlone) {
  std::atomic<int> arrived{0};
  run_threaded_ranks(4, [&](Collectives& world) {
    for (int round = 1; round <= 100; ++round) {
      ++arrived;
      world.barrier();
      EXPECT_GE(arrived, 4 * round);
      world.barrier();
    }
  });
}

TEST(ThreadedRanks, TheFirstErrorReachesTheCallerAndTheOtherRanks) {
  for (int failing = 0; failing < 3; ++failing) {
    std::atomic<int> told{0};
    try {
      run_threaded_ranks(3, [&](Collectives& world) {
        if (world.rank() == failing) throw InputError("the corpus is torn", "file.bin", "mend it");
        const std::string reason = failure_of(world);
        EXPECT_THAT(reason, HasSubstr("rank " + std::to_string(failing) + " failed"));
        EXPECT_THAT(reason, HasSubstr("the corpus is torn"));
        ++told;
        sum_once(world);  // later operations fail too
        ADD_FAILURE() << "an operation went through after a failure";
      });
      FAIL() << "no error came through";
    } catch (const InputError& e) {
      EXPECT_EQ(e.summary(), "the corpus is torn");
      EXPECT_EQ(e.where(), "file.bin, rank " + std::to_string(failing));
      EXPECT_EQ(e.advice(), "mend it");
    }
    EXPECT_EQ(told, 2);
  }
}

TEST(ThreadedRanks, AnErrorReachesRanksThatWaitInOtherGroups) {
  EXPECT_THROW(
      run_threaded_ranks(4,
                         [](Collectives& world) {
                           const Groups groups = make_groups(world, 2);
                           if (world.rank() == 3) throw NumericalError("loss is nan");
                           failure_of(*(world.rank() == 2 ? groups.expert : groups.replica));
                           throw RankError("followed");
                         }),
      NumericalError);
}

TEST(ThreadedRanks, ErrorsOfEveryKindKeepTheirKind) {
  const auto fail_with = [](auto error) {
    run_threaded_ranks(2, [&](Collectives& world) {
      if (world.rank() == 1) throw error;
      failure_of(world);
    });
  };
  EXPECT_THROW(fail_with(ConfigError("x")), ConfigError);
  EXPECT_THROW(fail_with(CheckpointError("x")), CheckpointError);
  EXPECT_THROW(fail_with(RankError("x")), RankError);
  EXPECT_THROW(fail_with(SpaceError("x")), SpaceError);
  EXPECT_THROW(fail_with(std::bad_alloc()), SpaceError);
  EXPECT_THROW(fail_with(7), int);
  try {
    fail_with(std::runtime_error("plain"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), ExitCode::kDefect);
    EXPECT_THAT(e.what(), testing::AllOf(HasSubstr("plain"), HasSubstr("rank 1")));
  }
}

TEST(ThreadedRanks, AbortWakesTheOthersAndNamesTheRank) {
  try {
    run_threaded_ranks(3, [](Collectives& world) {
      const auto pair = world.split(world.rank() == 0 ? 0 : 1);
      if (world.rank() == 2) {
        pair->abort("I give up");
      } else {
        EXPECT_THAT(failure_of(world), HasSubstr("rank 2 failed: I give up"));
      }
    });
    FAIL() << "no error came through";
  } catch (const RankError& e) {
    EXPECT_THAT(e.what(), HasSubstr("rank 2 failed: I give up"));
  }
}

TEST(ThreadedRanks, AbortAndThrowGiveTheThrownError) {
  EXPECT_THROW(run_threaded_ranks(2,
                                  [](Collectives& world) {
                                    if (world.rank() == 0) failure_of(world);
                                    world.abort("bad input");
                                    throw InputError("bad input");
                                  }),
               InputError);
}

TEST(ThreadedRanks, WaitingForARankThatHasEndedIsAnError) {
  try {
    run_threaded_ranks(3, [](Collectives& world) {
      if (world.rank() == 1) return;
      world.barrier();
    });
    FAIL() << "no error came through";
  } catch (const RankError& e) {
    EXPECT_THAT(e.what(), HasSubstr("barrier for a rank that has ended"));
  }
}

// All ranks must notice, before any touches the others' memory.
void expect_disagreement(const std::function<void(Collectives&)>& body, const std::string& text) {
  std::atomic<int> noticed{0};
  run_threaded_ranks(3, [&](Collectives& world) {
    try {
      body(world);
      ADD_FAILURE() << "went through on rank " << world.rank();
    } catch (const Error& e) {
      EXPECT_EQ(e.exit_code(), ExitCode::kDefect);
      EXPECT_THAT(e.what(), HasSubstr(text));
      ++noticed;
    }
  });
  EXPECT_EQ(noticed, 3);
}

TEST(ThreadedRanks, DisagreementsAreNoticedByAll) {
  expect_disagreement(
      [](Collectives& world) { world.rank() == 1 ? world.barrier() : sum_once(world); },
      "different operations: barrier, all_reduce");
  expect_disagreement(
      [](Collectives& world) {
        Tensor x(DType::kFloat32, {world.rank() == 2 ? 3 : 4});
        world.all_reduce(stream, x, ReduceOp::kSum);
      },
      "rank 2 of the group and rank 0 differ");
  expect_disagreement(
      [](Collectives& world) {
        Tensor x(DType::kFloat32, {4});
        world.broadcast(stream, x, world.rank() == 1 ? 1 : 0);
      },
      "rank 1 of the group and rank 0 differ");
  expect_disagreement(
      [](Collectives& world) {
        std::vector<int64_t> send{1, 1, 1}, recv{1, 1, 1};
        if (world.rank() == 0) send[2] = 2;
        Tensor x(DType::kFloat32, {world.rank() == 0 ? 4 : 3}), y(DType::kFloat32, {3});
        world.all_to_all(stream, x, send, y, recv);
      },
      "rank 0 of the group sends 2 rows to rank 2, which expects 1");
}

}  // namespace
}  // namespace switchyard
