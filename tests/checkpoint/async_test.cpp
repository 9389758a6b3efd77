// Checkpoints that are written while the weights change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>

#include "base/errors.h"
#include "checkpoint/directory.h"
#include "checkpoint/saver.h"
#include "checkpoint/small_model.h"
#include "collectives/threaded.h"
#include "support/faulty_file_system.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

// Holds up, or fails, the creation of files of one name until the gate is opened.
class Gate : public FaultyFileSystem {
 public:
  explicit Gate(std::string name, int error = 0) : name_(std::move(name)), error_(error) {}

  void open_gate() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int create(const std::filesystem::path& path, int& file) override {
    if (path.filename() == name_) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return open_; });
      if (error_ != 0) return error_;
    }
    return FaultyFileSystem::create(path, file);
  }

 private:
  const std::string name_;
  const int error_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

struct Case {
  int ranks, expert_ranks, expert_tensor;
};
void PrintTo(const Case& tested, std::ostream* out) {
  *out << tested.ranks << "x" << tested.expert_ranks << "x" << tested.expert_tensor;
}

class Behind : public testing::TestWithParam<Case> {
 protected:
  void on_all_ranks(const std::function<void(Collectives&, const Groups&, SmallModel&)>& body) {
    const Case& tested = GetParam();
    run_threaded_ranks(tested.ranks, [&](Collectives& world) {
      const Groups groups = make_groups(world, tested.expert_ranks, tested.expert_tensor);
      SmallModel model(groups, DType::kFloat32);
      body(world, groups, model);
    });
  }
  std::string difference(int64_t step, Collectives& world, SmallModel& model) const {
    model.clear();
    Checkpoint::open(directory_.path() / step_name(step))
        .load(model.weights(), model.optimizer(), world);
    return model.difference(step);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    FileSystem::real().list(directory_.path(), names);
    return names;
  }

  const TemporaryDirectory directory_;
};

TEST_P(Behind, HoldsTheTensorsOfTheMomentItWasBegun) {
  on_all_ranks([&](Collectives& world, const Groups& groups, SmallModel& model) {
    CheckpointSaver saver(directory_.path(), model.state(0), groups, {.run_id = "test"});
    saver.reserve();
    for (int64_t step = 1; step <= 3; ++step) {  // into the same copy
      model.fill(step);
      saver.start({.step = step, .tokens_seen = 10 * step, .sampler_position = 8 * step});
      EXPECT_TRUE(saver.busy());
      model.fill(100 + step);
      std::optional<std::filesystem::path> path;
      if (step == 3) path = saver.finish();
      while (!path) path = saver.poll();
      EXPECT_EQ(*path, directory_.path() / step_name(step));
      EXPECT_FALSE(saver.busy());
      EXPECT_EQ(difference(step, world, model), "");
      world.barrier();
    }
    EXPECT_FALSE(saver.poll());
    EXPECT_FALSE(saver.finish());
  });
  EXPECT_EQ(Checkpoint::open(directory_.path() / step_name(2)).manifest().tokens_seen, 20);
  EXPECT_EQ(names().size(), 3u);
}

// The files are the same, whether training waits for them or not.
TEST_P(Behind, WritesTheFilesOfASaveThatWaits) {
  on_all_ranks([&](Collectives& world, const Groups& groups, SmallModel& model) {
    CheckpointSaver saver(directory_.path(), model.state(0), groups, {.run_id = "test"});
    model.fill(1);
    saver.start({.step = 1});
    saver.finish();
    saver.save({.step = 2});
    world.barrier();
    const auto one = Checkpoint::open(directory_.path() / step_name(1)).manifest();
    const auto two = Checkpoint::open(directory_.path() / step_name(2)).manifest();
    ASSERT_EQ(one.files.size(), two.files.size());
    for (size_t i = 0; i < one.files.size(); ++i) {
      EXPECT_EQ(one.files[i].name, two.files[i].name);
      EXPECT_EQ(one.files[i].chunks, two.files[i].chunks) << one.files[i].name;
    }
  });
}

// Keeps how nice the threads were that created files.
class Niceness : public FaultyFileSystem {
 public:
  int create(const std::filesystem::path& path, int& file) override {
    {
      const std::lock_guard lock(mutex_);
      seen_.insert(::getpriority(PRIO_PROCESS, 0));
    }
    return FaultyFileSystem::create(path, file);
  }
  std::set<int> take() { return std::exchange(seen_, {}); }

 private:
  std::mutex mutex_;
  std::set<int> seen_;
};

TEST(Background, GivesWayToTraining) {
  const TemporaryDirectory directory;
  Niceness files;
  const int ours = ::getpriority(PRIO_PROCESS, 0);
  run_threaded_ranks(1, [&](Collectives& world) {
    const Groups groups = make_groups(world, 1, 1);
    SmallModel model(groups, DType::kFloat32);
    model.fill(1);
    CheckpointSaver saver(directory.path(), model.state(0), groups, {.run_id = "test"}, files);
    saver.save({.step = 1});
    EXPECT_EQ(files.take(), std::set{ours});
    saver.start({.step = 2});
    saver.finish();
    EXPECT_EQ(files.take(), std::set{std::min(ours + 10, 19)});
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), ours);
  });
}

TEST_P(Behind, PollingNeverWaitsAndNothingIsCommittedBeforeAllRanksHaveWritten) {
  const std::string last = shard_name("optimizer", GetParam().ranks, GetParam().ranks);
  Gate files(last);
  on_all_ranks([&](Collectives& world, const Groups& groups, SmallModel& model) {
    CheckpointSaver saver(directory_.path(), model.state(0), groups, {.run_id = "test"}, files);
    model.fill(1);
    saver.start({.step = 1});
    for (int i = 0; i < 50; ++i) EXPECT_FALSE(saver.poll());
    EXPECT_FALSE(latest_checkpoint(directory_.path()));
    world.barrier();
    if (world.rank() == 0) files.open_gate();
    EXPECT_TRUE(saver.finish());
    EXPECT_EQ(difference(1, world, model), "");
  });
}

TEST_P(Behind, AFailedWriterIsToldOnEveryRankAndTheCheckpointBeforeStays) {
  const int ranks = GetParam().ranks;
  const std::string of_last_rank = shard_name("model", ranks, ranks);
  Gate files(of_last_rank, ENOSPC);
  files.open_gate();
  std::atomic<int> own = 0, told = 0;
  on_all_ranks([&](Collectives& world, const Groups& groups, SmallModel& model) {
    model.fill(1);
    save_checkpoint(directory_.path(), model.state(1), groups, {.run_id = "test"});
    CheckpointSaver saver(directory_.path(), model.state(0), groups, {.run_id = "test", .keep = 1},
                          files);
    saver.start({.step = 2});
    try {
      while (!saver.poll()) {
      }
      ADD_FAILURE() << "saved on rank " << world.rank();
    } catch (const Error& error) {
      ++(world.rank() == ranks - 1 ? own : told);
      EXPECT_EQ(error.exit_code(), ExitCode::kNoSpace);
      EXPECT_THAT(error.where(), HasSubstr(of_last_rank));
      if (world.rank() != ranks - 1) {
        EXPECT_THAT(error.where(), HasSubstr("rank " + std::to_string(ranks - 1)));
      }
    }
    EXPECT_FALSE(saver.busy());
    world.barrier();
    EXPECT_EQ(difference(1, world, model), "");
  });
  EXPECT_EQ(own, 1);
  EXPECT_EQ(told, ranks - 1);
  EXPECT_EQ(names(), std::vector<std::string>{"step-00000001"});
}

TEST_P(Behind, AnAbandonedSaveIsClearedUpByTheNext) {
  on_all_ranks([&](Collectives& world, const Groups& groups, SmallModel& model) {
    model.fill(1);
    {
      CheckpointSaver saver(directory_.path(), model.state(0), groups, {.run_id = "test"});
      saver.start({.step = 1});
    }
    world.barrier();
    EXPECT_FALSE(latest_checkpoint(directory_.path()));
    model.fill(2);
    save_checkpoint(directory_.path(), model.state(2), groups, {.run_id = "test"});
  });
  EXPECT_EQ(names(), std::vector<std::string>{"step-00000002"});
}

// The last one with slices of experts, which are put together before anything is written.
INSTANTIATE_TEST_SUITE_P(Layouts, Behind,
                         testing::Values(Case{1, 1, 1}, Case{3, 3, 1}, Case{3, 3, 3},
                                         Case{4, 2, 2}),
                         [](const auto& tested) { return testing::PrintToString(tested.param); });

}  // namespace
}  // namespace switchyard
