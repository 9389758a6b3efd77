#include <unistd.h>

#include <system_error>

#include "base/check.h"
#include "base/errors.h"
#include "base/version.h"
#include "checkpoint/agree.h"
#include "checkpoint/directory.h"
#include "checkpoint/saver.h"

namespace switchyard {

using Path = std::filesystem::path;

// Every thread of a step waits for the one that shares its core with this thread. With this much
// less weight that one loses about a tenth of the core, and this thread still gets along where
// nobody ever idles. On Linux it is of the calling thread alone.
static void give_way() { static_cast<void>(::nice(10)); }

void Background::start(int rank, std::function<void()> task) {
  SWITCHYARD_CHECK(!thread_.joinable(), "a second task");
  error_ = nullptr;
  done_ = false;
  try {
    thread_ = std::thread([this, rank, task = std::move(task)] {
      set_current_rank(rank);
      give_way();
      try {
        task();
      } catch (...) {  // carried over to the thread that asks
        error_ = std::current_exception();
      }
      done_.store(true, std::memory_order_release);
    });
  } catch (const std::system_error&) {
    error_ = std::make_exception_ptr(SpaceError("no thread can be started to write a checkpoint"));
    done_ = true;
  }
}

void Background::wait() {
  if (thread_.joinable()) thread_.join();
}

CheckpointSaver::CheckpointSaver(Path directory, CheckpointState state, const Groups& groups,
                                 SaveOptions options, FileSystem& files)
    : directory_(std::move(directory)),
      state_(std::move(state)),
      world_(*groups.world),
      options_(std::move(options)),
      files_(files),
      share_(state_.weights, state_.optimizer, groups) {}

void CheckpointSaver::begin(const CheckpointPosition& position) {
  SWITCHYARD_CHECK(!busy() && position.step >= 0, "step ", position.step);
  state_.step = position.step;
  state_.tokens_seen = position.tokens_seen;
  state_.sampler_position = position.sampler_position;
  manifest_ = {};
  pace_ = WriterPace::kGiveWay;
  unfinished_.emplace(directory_ / step_name(position.step), options_.run_id,
                      UnfinishedCheckpoint::Existing::kReplace, files_);
}

// An error that reaches all ranks ends the save.
void CheckpointSaver::guarded(const std::function<void()>& action) {
  try {
    action();
  } catch (...) {
    if (leads()) unfinished_->discard();
    stage_ = Stage::kIdle;
    throw;
  }
}

Path CheckpointSaver::save(const CheckpointPosition& position) {
  begin(position);
  guarded([&] {
    run_and_agree(world_, [&] {
      if (!leads()) return;
      unfinished_->prepare();
      write_texts();
    });
    for (const TensorPart part : {TensorPart::kModel, TensorPart::kOptimizer}) {
      run_and_agree(world_, [&] { share_.write(*unfinished_, part, manifest_); });
    }
    const std::vector<std::string> parts = gather_parts();
    run_and_agree(world_, [&] {
      if (leads()) commit(parts);
    });
  });
  return unfinished_->path();
}

void CheckpointSaver::reserve() {
  run_and_agree(world_, [&] { share_.reserve(); });
}

void CheckpointSaver::start(const CheckpointPosition& position) {
  begin(position);
  guarded([&] {
    run_and_agree(world_, [&] {
      share_.reserve();
      if (leads()) unfinished_->prepare();
    });
    for (const TensorPart part : {TensorPart::kModel, TensorPart::kOptimizer}) {
      run_and_agree(world_, [&] { share_.copy(part); });
    }
  });
  stage_ = Stage::kWriting;
  background_.start(world_.rank(), [this] {
    if (leads()) write_texts();
    for (const TensorPart part : {TensorPart::kModel, TensorPart::kOptimizer}) {
      if (!share_.write_copy(*unfinished_, part, manifest_, pace_)) return;
    }
  });
}

std::optional<Path> CheckpointSaver::poll() {
  if (!busy()) return {};
  enum : int64_t { kDone, kBusy, kFailed };  // the maximum over the ranks counts
  int64_t state = !background_.done() ? kBusy : background_.error() ? kFailed : kDone;
  InlineStream stream;
  world_.all_reduce(stream, TensorView(&state, DType::kInt64, {1}), ReduceOp::kMax)->wait();
  if (state == kBusy) return {};
  std::optional<Path> saved;
  guarded([&] {
    // After a failure no rank may still be writing when the directory is removed.
    if (state == kFailed) pace_ = WriterPace::kGiveUp;
    background_.wait();
    run_and_agree(world_, [&] {
      if (background_.error()) std::rethrow_exception(background_.error());
    });
    if (stage_ == Stage::kCommitting) {
      stage_ = Stage::kIdle;
      saved = unfinished_->path();
      return;
    }
    std::vector<std::string> parts = gather_parts();
    stage_ = Stage::kCommitting;
    if (!leads()) return;
    background_.start(world_.rank(), [this, parts = std::move(parts)] { commit(parts); });
  });
  return saved;
}

std::optional<Path> CheckpointSaver::finish() {
  std::optional<Path> saved;
  pace_ = WriterPace::kHurry;
  while (busy()) {
    background_.wait();
    saved = poll();
  }
  return saved;
}

// Rank 0.
void CheckpointSaver::write_texts() {
  unfinished_->write_texts(state_.config_text, share_.index(), state_.tokenizer, manifest_);
}

// What each rank has written, by rank.
std::vector<std::string> CheckpointSaver::gather_parts() {
  std::string mine;
  run_and_agree(world_, [&] { mine = encode_manifest(manifest_); });
  return gather_texts(world_, std::move(mine));
}

// Rank 0: the manifest of all ranks' parts, the directory's final name, then retention.
void CheckpointSaver::commit(const std::vector<std::string>& parts) {
  Manifest whole{.program_version = kVersion,
                 .step = state_.step,
                 .tokens_seen = state_.tokens_seen,
                 .sampler_position = state_.sampler_position,
                 .seed = state_.seed,
                 .layout = share_.layout(),
                 .config_hash = digest_of(state_.config_text),
                 .dataset_hash = state_.dataset_hash};
  for (const std::string& bytes : parts) {
    Manifest part = decode_manifest(bytes, unfinished_->path().string());
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(whole.tensors));
    std::move(part.files.begin(), part.files.end(), std::back_inserter(whole.files));
  }
  unfinished_->publish(std::move(whole));
  std::erase(options_.damaged, state_.step);
  remove_older_checkpoints(directory_, state_.step, options_, files_);
}

Path save_checkpoint(const Path& directory, const CheckpointState& state, const Groups& groups,
                     const SaveOptions& options, FileSystem& files) {
  CheckpointSaver saver(directory, state, groups, options, files);
  return saver.save({state.step, state.tokens_seen, state.sampler_position});
}

}  // namespace switchyard
