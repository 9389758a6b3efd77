// Saves a job's checkpoints into one directory: at once, or while training goes on. Then a save
// costs one copy in memory; a thread of each rank writes from it, and only the thread that calls
// here talks to other ranks: nothing is committed before they have told each other, in poll() or
// finish(), that all their files are on the disk.
#pragma once

#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/rank_share.h"

namespace switchyard {

// How far the run has come.
struct CheckpointPosition {
  int64_t step = 0, tokens_seen = 0, sampler_position = 0;
};

// A thread that runs one task at a time, and gives way to those of the training.
class Background {
 public:
  Background() = default;
  ~Background() { wait(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // After wait(). A task that can't be started fails.
  //   rank  that its log lines and checks name
  void start(int rank, std::function<void()> task);
  bool done() const { return done_.load(std::memory_order_acquire); }
  void wait();
  // What the task threw; null while it runs.
  std::exception_ptr error() const { return done() ? error_ : nullptr; }

 private:
  std::thread thread_;
  std::atomic<bool> done_ = true;
  std::exception_ptr error_;
};

class CheckpointSaver {
 public:
  // Keeps references to the weights and states; those, `groups` and `files` must outlive it. Every
  // rank calls this and all that follows, in the same order.
  //   state  its position is that of no checkpoint yet
  CheckpointSaver(std::filesystem::path directory, CheckpointState state, const Groups& groups,
                  SaveOptions options, FileSystem& files = FileSystem::real());
  // Gives up a save that is being written; the next one removes what is left of it.
  ~CheckpointSaver() { pace_ = WriterPace::kGiveUp; }

  // See save_checkpoint. Not while busy().
  std::filesystem::path save(const CheckpointPosition& position);

  // Takes the memory for copies, which start() would take else. Throws as save() does.
  void reserve();
  // Begins a save of the tensors as they are now and returns once they are copied. Not while
  // busy(). Throws as save() does.
  void start(const CheckpointPosition& position);
  // Whether a save has been started and not yet been ended by poll() or finish().
  bool busy() const { return stage_ != Stage::kIdle; }
  // Brings the started save forward without waiting for any disk.
  //   returns  the checkpoint's path, once it is whole
  // Throws as save() does if a rank's writer has failed.
  std::optional<std::filesystem::path> poll();
  // The same, waiting for the disks; empty if nothing was started.
  std::optional<std::filesystem::path> finish();

 private:
  enum class Stage : uint8_t { kIdle, kWriting, kCommitting };

  bool leads() const { return world_.rank() == 0; }
  void begin(const CheckpointPosition& position);
  void guarded(const std::function<void()>& action);
  void write_texts();
  std::vector<std::string> gather_parts();
  void commit(const std::vector<std::string>& parts);

  const std::filesystem::path directory_;
  CheckpointState state_;
  Collectives& world_;
  SaveOptions options_;
  FileSystem& files_;
  RankShare share_;
  std::optional<UnfinishedCheckpoint> unfinished_;
  Manifest manifest_;  // tensors and files of this rank
  Stage stage_ = Stage::kIdle;
  std::atomic<WriterPace> pace_ = WriterPace::kGiveWay;
  Background background_;  // the last member: it uses the others
};

}  // namespace switchyard
