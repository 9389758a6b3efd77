// Whatever call fails while saving, the checkpoint before it stays good.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <fstream>

#include "base/errors.h"
#include "checkpoint/directory.h"
#include "checkpoint/saver.h"
#include "checkpoint/small_model.h"
#include "collectives/single.h"
#include "collectives/threaded.h"
#include "safetensors/safetensors.h"
#include "support/faulty_file_system.h"
#include "support/memory_file_system.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

class Faults : public testing::Test {
 protected:
  Faults()
      : world_(make_single_collectives()),
        groups_(make_groups(*world_, 1)),
        model_(groups_, DType::kFloat32, 2) {
    std::ofstream(tokenizer_) << "pieces";
  }

  std::filesystem::path save(int64_t step, int64_t keep = 0) {
    FaultyFileSystem without_faults;
    return save(step, keep, without_faults);
  }
  std::filesystem::path save(int64_t step, int64_t keep, FileSystem& files) {
    return save(step, {.run_id = "test", .keep = keep}, files);
  }
  std::filesystem::path save(int64_t step, const SaveOptions& options,
                             FileSystem& files = FileSystem::real()) {
    model_.fill(step);
    CheckpointState state = model_.state(step);
    state.tokenizer = tokenizer_;
    return save_checkpoint(checkpoints(), state, groups_, options, files);
  }
  // The same while the weights change.
  void save_behind(int64_t step, int64_t keep, FileSystem& files) {
    CheckpointSaver saver(checkpoints(), model_.state(0), groups_, {.run_id = "test", .keep = keep},
                          files);
    model_.fill(step);
    saver.start({.step = step});
    model_.clear();
    saver.finish();
  }
  bool loads(int64_t step) {
    model_.clear();
    Checkpoint::open(checkpoints() / step_name(step))
        .load(model_.weights(), model_.optimizer(), *world_);
    return model_.difference(step).empty();
  }
  std::filesystem::path checkpoints() const { return directory_.path() / "checkpoints"; }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> steps;
    for (const CheckpointEntry& entry : list_checkpoints(checkpoints()))
      steps.push_back(entry.step);
    return steps;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    FileSystem::real().list(checkpoints(), names);
    return names;
  }

  // Whatever happens to the checkpoints later, they can be as they are now again.
  void keep_pristine() {
    std::filesystem::copy(checkpoints(), pristine_, std::filesystem::copy_options::recursive);
  }
  void restore_pristine() {
    std::filesystem::remove_all(checkpoints());
    std::filesystem::copy(pristine_, checkpoints(), std::filesystem::copy_options::recursive);
  }

  TemporaryDirectory directory_;
  const std::filesystem::path pristine_ = directory_.path() / "pristine";
  const std::filesystem::path tokenizer_ = directory_.path() / "a-tokenizer";
  std::unique_ptr<Collectives> world_;
  Groups groups_;
  SmallModel model_;
};

// The step-th save fails at its n-th call, for every n; the first time it gets through the loop
// ends. Returns how many calls have failed.
int64_t fail_every_call(const std::function<void(int64_t call)>& attempt, bool& failed) {
  for (int64_t call = 0; call < 1000; ++call) {
    failed = false;
    attempt(call);
    if (!failed) {
      EXPECT_GT(call, 20) << "so few calls?";
      return call;
    }
  }
  ADD_FAILURE() << "a save of more than 1000 calls?";
  return 0;
}

// Whether a save whose `call`-th call fails may say that it has saved: only when the checkpoint has
// been committed, by the last sync of a directory, or the call reads what has been read already.
//   clean  the calls of a save without a fault
bool may_pass(const std::vector<std::string>& clean, int64_t call, bool from_there_on) {
  const auto last_sync = std::find(clean.rbegin(), clean.rend(), "sync_directory");
  const int64_t commit = clean.rend() - last_sync - 1;
  return call > commit || (clean[static_cast<size_t>(call)] == "close_input" && !from_there_on);
}

TEST_F(Faults, EveryCallFailingInTurnLeavesAGoodCheckpoint) {
  save(1);
  keep_pristine();
  struct Case {
    int error;
    bool from_there_on, behind;
  };
  for (const Case& one :
       {Case{ENOSPC, false, false}, Case{ENOSPC, true, false}, Case{EIO, false, false},
        Case{EIO, true, false}, Case{ENOSPC, false, true}, Case{EIO, true, true}}) {
    const int error = one.error;
    const bool from_there_on = one.from_there_on, behind = one.behind;
    const auto save_second = [&](FaultyFileSystem& files) {
      restore_pristine();
      behind ? save_behind(2, 1, files) : static_cast<void>(save(2, 1, files));
    };
    FaultyFileSystem clean;
    save_second(clean);
    bool failed = false;
    const auto attempt = [&](int64_t call) {
      FaultyFileSystem files(call, error, {}, from_there_on);
      bool saved = true;
      try {
        save_second(files);
      } catch (const Error& e) {
        saved = false;
        const auto expected = error == ENOSPC ? ExitCode::kNoSpace : ExitCode::kBadCheckpoint;
        EXPECT_EQ(e.exit_code(), expected) << call;
        EXPECT_FALSE(e.where().empty()) << call;
        EXPECT_THAT(e.summary(), HasSubstr(std::strerror(error))) << call;
      }
      failed = files.failed();
      if (failed) {
        EXPECT_EQ(saved, may_pass(clean.record(), call, from_there_on))
            << "call " << call << ": " << clean.record()[static_cast<size_t>(call)];
      }
      const auto latest = latest_checkpoint(checkpoints());
      ASSERT_TRUE(latest);
      ASSERT_TRUE(loads(latest->step)) << "call " << call;
      if (saved) {
        ASSERT_EQ(latest->step, 2) << "call " << call;
      } else {
        ASSERT_TRUE(loads(1)) << "call " << call;
      }
      // The next save is not in the way of what the fault left behind, and clears it up.
      save(3, 1);
      ASSERT_EQ(names(), std::vector<std::string>{"step-00000003"}) << "call " << call;
    };
    EXPECT_EQ(fail_every_call(attempt, failed), clean.calls());
  }
}

TEST_F(Faults, EveryCallFailingWhileAStepIsReplacedLeavesAGoodCheckpoint) {
  save(1);
  keep_pristine();
  const auto replace = [&](FaultyFileSystem& files) {
    restore_pristine();
    save(1, 0, files);
  };
  FaultyFileSystem clean;
  replace(clean);
  bool failed = false;
  const auto attempt = [&](int64_t call) {
    FaultyFileSystem files(call, EIO);
    bool saved = true;
    try {
      replace(files);
    } catch (const Error&) {
      saved = false;
    }
    failed = files.failed();
    if (failed) {
      EXPECT_EQ(saved, may_pass(clean.record(), call, false)) << call;
    }
    ASSERT_TRUE(loads(1)) << call;
    // The next one clears up what the fault has left.
    save(1);
    ASSERT_EQ(names(), std::vector<std::string>{"step-00000001"}) << call;
  };
  EXPECT_EQ(fail_every_call(attempt, failed), clean.calls());
}

TEST_F(Faults, AFullDiskIsSaidAndNothingOfItStays) {
  save(1);
  FaultyFileSystem files(0, ENOSPC, {"write"});
  try {
    save(2, 1, files);
    FAIL() << "saved to a full disk";
  } catch (const SpaceError& error) {
    EXPECT_THAT(error.summary(), HasSubstr("No space left on device"));
    EXPECT_THAT(error.where(), HasSubstr("step-00000002.writing-test"));
  }
  EXPECT_EQ(names(), std::vector<std::string>{"step-00000001"});
}

// Everything is synced before the name that makes it a checkpoint appears.
TEST_F(Faults, TheOrderOfCallsIsSafe) {
  FaultyFileSystem files;
  save(1, 0, files);
  const std::vector<std::string>& record = files.record();
  const std::vector<std::string> end(record.end() - 8, record.end());
  EXPECT_THAT(end, testing::ElementsAre("create", "write", "sync", "close", "rename",
                                        "sync_directory", "rename", "sync_directory"));
  EXPECT_EQ(std::count(record.begin(), record.end(), "create"),
            std::count(record.begin(), record.end(), "sync"));
}

TEST_F(Faults, RetentionKeepsTheNewest) {
  for (int64_t step = 1; step <= 4; ++step) save(step, 2);
  EXPECT_EQ(steps(), (std::vector<int64_t>{3, 4}));
  save(5);
  EXPECT_EQ(steps(), (std::vector<int64_t>{3, 4, 5}));
  // A run resumed from an earlier one never removes what it has just written.
  save(2, 1);
  EXPECT_EQ(steps(), (std::vector<int64_t>{2, 3, 4, 5}));
}

TEST_F(Faults, RetentionSparesMultiplesAndDoesNotCountDamagedOnes) {
  const SaveOptions options{.run_id = "test", .keep = 2, .keep_every = 4};
  for (int64_t step = 1; step <= 10; ++step) save(step, options);
  EXPECT_EQ(steps(), (std::vector<int64_t>{4, 8, 9, 10}));
  SaveOptions after_damage = options;
  after_damage.damaged = {10};
  save(11, after_damage);
  EXPECT_EQ(steps(), (std::vector<int64_t>{4, 8, 9, 10, 11}));
}

TEST_F(Faults, LeftoversOfThisRunGoAndThoseOfOthersStay) {
  std::filesystem::create_directories(checkpoints() / "step-00000001.writing-test");
  std::ofstream(checkpoints() / "step-00000001.writing-test" / "config.yaml") << "half";
  std::filesystem::create_directories(checkpoints() / "step-00000001.writing-test2");
  std::filesystem::create_directories(checkpoints() / "step-00000003.removing-test");
  std::filesystem::create_directories(checkpoints() / "mine.writing-test");
  save(1);
  EXPECT_THAT(names(), testing::ElementsAre("mine.writing-test", "step-00000001",
                                            "step-00000001.writing-test2"));
}

TEST_F(Faults, ListsFinishedCheckpointsOnly) {
  EXPECT_TRUE(list_checkpoints(checkpoints()).empty());
  EXPECT_FALSE(latest_checkpoint(checkpoints()));
  save(1);
  save(100'000'000);
  for (const char* name : {"step-00000002", "step-2", "step-000000003", "step-0000000x",
                           "step-00000004.writing-test"}) {
    std::filesystem::create_directories(checkpoints() / name);
  }
  for (const char* name : {"step-2", "step-000000003", "step-00000004.writing-test"}) {
    std::filesystem::copy(checkpoints() / "step-00000001" / "manifest.pb",
                          checkpoints() / name / "manifest.pb");
  }
  EXPECT_EQ(steps(), (std::vector<int64_t>{1, 100'000'000}));
  EXPECT_EQ(latest_checkpoint(checkpoints())->path, checkpoints() / "step-100000000");
}

std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

// Hands out `text` in pieces of 1, 2, 3, ... bytes.
TensorSource source(const std::string& name, StoredType type, std::vector<uint64_t> shape,
                    const std::string& text, TensorPart part = TensorPart::kModel) {
  const auto read = [bytes = bytes_of(text)](const auto& take) {
    for (size_t at = 0, piece = 1; at < bytes.size(); at += piece++) {
      take(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    }
  };
  return {.name = name, .part = part, .type = type, .shape = std::move(shape), .read = read};
}

class Sources : public testing::Test {
 protected:
  Sources() {
    contents_.step = 12;
    contents_.tokens_seen = 3456;
    contents_.seed = 7;
    contents_.config_text = "name: merged\n";
    contents_.tensors = {
        source("b", StoredType::kF32, {2, 3}, "twenty-four bytes of it."),
        source("a", StoredType::kBF16, {4}, "8 bytes."),
        source("none", StoredType::kF32, {0, 5}, ""),
        source("large", StoredType::kBF16, {5, 5}, std::string(50, 'x')),
        source("b/adamw.first", StoredType::kF32, {3}, "twelve bytes", TensorPart::kOptimizer),
    };
    std::ofstream(directory_.path() / "spm.model") << "pieces";
    contents_.tokenizer = directory_.path() / "spm.model";
  }
  std::filesystem::path target() const { return directory_.path() / "new" / "merged"; }
  // Reads every byte through its hashes.
  void expect_whole() const {
    const Checkpoint checkpoint = Checkpoint::open(target());
    for (const ManifestFile& file : checkpoint.manifest().files) checkpoint.read_file(file.name);
    EXPECT_EQ(checkpoint.manifest().tensors.size(), contents_.tensors.size());
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    FileSystem::real().list(target().parent_path(), names);
    return names;
  }

  TemporaryDirectory directory_;
  CheckpointContents contents_;
};

TEST_F(Sources, AreReadBackFromFilesOfBoundedSize) {
  EXPECT_EQ(write_checkpoint(target().string() + "/", contents_, 32), target());
  expect_whole();
  const Checkpoint checkpoint = Checkpoint::open(target());
  EXPECT_EQ(checkpoint.manifest().step, 12);
  EXPECT_EQ(checkpoint.manifest().tokens_seen, 3456);
  EXPECT_EQ(checkpoint.manifest().layout.ranks, 1);
  EXPECT_EQ(checkpoint.read_file("config.yaml"), "name: merged\n");
  EXPECT_EQ(checkpoint.read_file(kCheckpointTokenizer), "pieces");
  const SafetensorsSet set = SafetensorsSet::open(target());
  EXPECT_THAT(set.names(), testing::ElementsAre("a", "b", "large", "none"));
  EXPECT_EQ(set.files().size(), 2u);  // b, a, none: 32 bytes; large: 50
  for (const TensorSource& tensor : contents_.tensors) {
    if (tensor.part != TensorPart::kModel) continue;
    std::vector<std::byte> expected;
    tensor.read([&](auto bytes) { expected.insert(expected.end(), bytes.begin(), bytes.end()); });
    const auto stored = set.file_of(tensor.name).data(tensor.name);
    EXPECT_TRUE(std::ranges::equal(stored, expected)) << tensor.name;
  }
  try {
    write_checkpoint(target(), contents_, 32);
    FAIL() << "wrote over a checkpoint";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.summary(), HasSubstr("something of that name already"));
  }
  expect_whole();
}

TEST_F(Sources, ThatAreUnfitOrFailLeaveNothingBehind) {
  const auto refused = [&](const TensorSource& added) {
    CheckpointContents contents = contents_;
    contents.tensors.push_back(added);
    EXPECT_THROW(write_checkpoint(target(), contents, 1 << 20), Error) << added.name;
    EXPECT_TRUE(names().empty());
  };
  refused(contents_.tensors.front());
  refused(source("odd", StoredType::kF4, {3}, "?"));
  refused(source("unknown", StoredType::kC64, {1}, "8 bytes."));
  refused(source("short", StoredType::kF32, {2}, "seven"));
  TensorSource failing = source("failing", StoredType::kF32, {1}, "");
  failing.read = [](const auto&) { throw InputError("gone"); };
  refused(failing);
}

TEST_F(Sources, EveryCallFailingInTurnLeavesAWholeCheckpointOrNone) {
  FaultyFileSystem clean;
  write_checkpoint(target(), contents_, 32, clean);
  bool failed = false;
  fail_every_call(
      [&](int64_t call) {
        std::filesystem::remove_all(target().parent_path());
        FaultyFileSystem files(call, EIO);
        bool written = true;
        try {
          write_checkpoint(target(), contents_, 32, files);
        } catch (const CheckpointError&) {
          written = false;
        }
        failed = files.failed();
        if (failed) {
          EXPECT_EQ(written, may_pass(clean.record(), call, false)) << call;
        }
        if (!std::filesystem::exists(target())) {
          ASSERT_FALSE(written) << call;
          write_checkpoint(target(), contents_, 32);
        }
        expect_whole();
        ASSERT_THAT(names(), testing::ElementsAre("merged")) << call;
      },
      failed);
}

// Fails the creation of one file, so that one rank meets the fault.
struct OneFileFails : FaultyFileSystem {
  int create(const std::filesystem::path& path, int& file) override {
    if (path.filename() == "model-00002-of-00003.safetensors") return ENOSPC;
    return FaultyFileSystem::create(path, file);
  }
};

// Of three ranks that hold slices of the same experts the two others wait for the third's too.
class FaultsOfARank : public testing::TestWithParam<int> {};

TEST_P(FaultsOfARank, ReachAllAndLeaveTheCheckpointBefore) {
  TemporaryDirectory directory;
  OneFileFails faulty;
  std::atomic<int> own = 0, told = 0;
  run_threaded_ranks(3, [&](Collectives& world) {
    const Groups groups = make_groups(world, 3, GetParam());
    SmallModel model(groups, DType::kFloat32);
    model.fill(1);
    save_checkpoint(directory.path(), model.state(1), groups, {.run_id = "test"});
    model.fill(2);
    try {
      save_checkpoint(directory.path(), model.state(2), groups, {.run_id = "test"}, faulty);
      ADD_FAILURE() << "saved on rank " << world.rank();
    } catch (const SpaceError&) {
      ++own;
      EXPECT_EQ(world.rank(), 1);
    } catch (const Error& error) {
      ++told;
      EXPECT_EQ(error.exit_code(), ExitCode::kNoSpace);
      EXPECT_THAT(error.where(), HasSubstr("rank 1"));
      EXPECT_THAT(error.where(), HasSubstr("model-00002-of-00003.safetensors"));
    }
    world.barrier();
    EXPECT_EQ(latest_checkpoint(directory.path())->step, 1);
    model.clear();
    Checkpoint::open(directory.path() / "step-00000001")
        .load(model.weights(), model.optimizer(), world);
    EXPECT_EQ(model.difference(1), "");
  });
  EXPECT_EQ(own, 1);
  EXPECT_EQ(told, 2);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "step-00000002.writing-test"));
}

INSTANTIATE_TEST_SUITE_P(Slices, FaultsOfARank, testing::Values(1, 3));

// The kinds of calls that a save makes, so that the tests above fail each of them.
TEST_F(Faults, ASaveMakesCallsOfEveryKind) {
  save(1);
  FaultyFileSystem files;
  save(2, 1, files);
  const std::set<std::string> kinds(files.record().begin(), files.record().end());
  EXPECT_THAT(kinds, testing::IsSupersetOf({"create", "write", "sync", "close", "open", "read",
                                            "make_directory", "sync_directory", "list", "rename",
                                            "remove"}));
}

const std::filesystem::path kMemoryRun = "/runs/checkpoints";

// Several ranks at work, in memory. Everything is done by all of them.
struct RanksInMemory {
  int ranks = 1, group = 1, slices = 1;

  // The model is filled as after `content`, whatever the step.
  void save(FileSystem& files, int64_t step, int64_t content, int64_t keep) const {
    run_threaded_ranks(ranks, [&](Collectives& world) {
      const Groups groups = make_groups(world, group, slices);
      SmallModel model(groups, DType::kFloat32, 2);
      model.fill(content);
      save_checkpoint(kMemoryRun, model.state(step), groups, {.run_id = "test", .keep = keep},
                      files);
    });
  }
};

// What the latest checkpoint holds, of some contents: 0 if it doesn't load or holds none of them.
int64_t latest_content(FileSystem& files, const std::vector<int64_t>& contents) {
  const auto world = make_single_collectives();
  const Groups groups = make_groups(*world, 1);
  SmallModel model(groups, DType::kFloat32, 2);
  try {
    const auto latest = latest_checkpoint(kMemoryRun, files);
    if (!latest) return 0;
    Checkpoint::open(latest->path, files).load(model.weights(), model.optimizer(), *world);
  } catch (const Error& error) {
    ADD_FAILURE() << error.what();
    return 0;
  }
  for (const int64_t content : contents) {
    if (model.difference(content).empty()) return content;
  }
  return 0;
}

// Every call of every rank fails in turn: all ranks hear of it, and of the same error.
TEST(FaultsOfRanks, EveryCallFailingInTurnLeavesTheCheckpointBefore) {
  const RanksInMemory job{.ranks = 3, .group = 3, .slices = 1};
  MemoryFileSystem pristine;
  job.save(pristine, 1, 1, 0);
  for (const int error : {ENOSPC, EIO}) {
    bool failed = false;
    fail_every_call(
        [&](int64_t call) {
          MemoryFileSystem memory(pristine);
          FaultyFileSystem files(call, error, {}, false, memory);
          std::atomic<int> threw = 0;
          const auto expected = error == ENOSPC ? ExitCode::kNoSpace : ExitCode::kBadCheckpoint;
          run_threaded_ranks(job.ranks, [&](Collectives& world) {
            const Groups groups = make_groups(world, job.group);
            SmallModel model(groups, DType::kFloat32, 2);
            model.fill(2);
            try {
              save_checkpoint(kMemoryRun, model.state(2), groups, {.run_id = "test", .keep = 1},
                              files);
            } catch (const Error& e) {
              ++threw;
              EXPECT_EQ(e.exit_code(), expected) << call;
              EXPECT_THAT(e.summary(), HasSubstr(std::strerror(error))) << call;
              EXPECT_THAT(e.where(), HasSubstr(kMemoryRun.string())) << call;
            }
          });
          failed = files.failed();
          EXPECT_TRUE(threw == 0 || threw == job.ranks) << call << ": " << threw;
          const int64_t content = latest_content(memory, {1, 2});
          // After the last rename the new one may stand there though its name isn't synced.
          EXPECT_EQ(content, threw == 0 ? 2 : content == 2 ? 2 : 1) << call;
          job.save(memory, 3, 3, 1);
          std::vector<std::string> names;
          memory.list(kMemoryRun, names);
          EXPECT_EQ(names, std::vector<std::string>{"step-00000003"}) << call;
        },
        failed);
  }
}

// The world stops between any two calls of a save, and what wasn't synced is lost or not.
struct CrashCase {
  std::string name;
  RanksInMemory job;
  int64_t old_step, new_step, keep;
};
void PrintTo(const CrashCase& crash, std::ostream* out) { *out << crash.name; }

class Crashes : public testing::TestWithParam<CrashCase> {};

TEST_P(Crashes, LeaveTheOldCheckpointOrTheNewOne) {
  const auto& [name, job, old_step, new_step, keep] = GetParam();
  constexpr int64_t kOld = 1, kNew = 2;
  MemoryFileSystem files;
  job.save(files, old_step, kOld, 0);
  files.start_recording();
  job.save(files, new_step, kNew, keep);
  const size_t calls = files.recorded();
  EXPECT_GT(calls, 25u);
  std::set<std::string> seen;
  std::map<int64_t, int64_t> found;
  for (size_t stop = 0; stop <= calls; ++stop) {
    files.for_each_crash(stop, seen, [&](MemoryFileSystem& disk) {
      const int64_t content = latest_content(disk, {kOld, kNew});
      EXPECT_NE(content, 0) << "after " << stop << " of " << calls << " calls";
      // The run goes on from there.
      if (found[content]++ % 10 != 0) return;
      job.save(disk, 9, 3, 1);
      EXPECT_EQ(latest_content(disk, {3}), 3) << "after " << stop << " of " << calls << " calls";
    });
  }
  EXPECT_GT(found[kOld], 20);
  EXPECT_GT(found[kNew], 0);
  // Once a save has returned nothing can take it away.
  seen.clear();
  files.for_each_crash(calls, seen, [&](MemoryFileSystem& disk) {
    EXPECT_EQ(latest_content(disk, {kOld, kNew}), kNew);
  });
}

// A run's first checkpoint: the directories above it are new too.
TEST(CrashesOfTheFirst, LeaveNoneOrAWholeOneAndOnceSavedItStays) {
  const RanksInMemory job;
  MemoryFileSystem files;
  files.start_recording();
  job.save(files, 1, 1, 0);
  std::set<std::string> seen;
  for (size_t stop = 0; stop <= files.recorded(); ++stop) {
    const bool saved = stop == files.recorded();
    if (saved) seen.clear();
    files.for_each_crash(stop, seen, [&](MemoryFileSystem& disk) {
      const bool any = latest_checkpoint(kMemoryRun, disk).has_value();
      EXPECT_TRUE(any || !saved);
      if (any) {
        EXPECT_EQ(latest_content(disk, {1}), 1) << "after " << stop << " calls";
      }
    });
  }
}

const CrashCase kCrashes[] = {
    {"one_rank", {}, 1, 2, 0},
    {"one_rank_that_keeps_one", {}, 1, 2, 1},
    {"one_rank_that_replaces_a_step", {}, 2, 2, 0},
    {"three_ranks", {.ranks = 3, .group = 3, .slices = 1}, 1, 2, 1},
    {"two_slices_each", {.ranks = 2, .group = 2, .slices = 2}, 1, 2, 1},
};
INSTANTIATE_TEST_SUITE_P(All, Crashes, testing::ValuesIn(kCrashes),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace switchyard
