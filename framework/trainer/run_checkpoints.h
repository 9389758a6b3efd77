// A run's checkpoints: what goes into one, and picking up where the last one left off.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/errors.h"
#include "base/hash.h"
#include "checkpoint/saver.h"
#include "collectives/groups.h"
#include "optim/optimizer.h"
#include "tensor/weight.h"

namespace switchyard {

// How far a run has come.
struct Progress {
  int64_t steps = 0;          // updates made
  int64_t target_tokens = 0;  // trained on
};

class RunCheckpoints {
 public:
  struct Options {
    std::filesystem::path directory;  // runs/<name>/checkpoints
    std::string run_id;               // the run's name
    int64_t keep = 2;
    int64_t keep_every = 0;   // see SaveOptions
    bool async = false;       // training goes on while a checkpoint is written
    bool fallback = false;    // a damaged checkpoint is passed over for the one before
    std::string config_text;  // resolved
    Digest dataset_hash;
    std::filesystem::path tokenizer;  // empty: the data are ids
    int64_t vocabulary = 0;           // ids of the data
    // Of another run: where this one starts while it has no checkpoint itself. Empty: from its
    // initial weights.
    std::filesystem::path from;
    std::vector<std::string> partial;  // see LoadOptions; for `from`
    uint64_t seed = 0;
    int64_t batch_sequences = 0;
  };
  // The model and optimizer must outlive it.
  RunCheckpoints(const Options& options, std::vector<Weight*> weights, Optimizer& optimizer,
                 const Groups& groups);

  // Every rank calls these, start() first.
  // Loads the run's latest checkpoint, weights and optimizer state, if there is one; else the
  // weights alone of options.from, if given. Says in one line where the run starts.
  //   returns  how far the run has come: none for weights of another run
  // Throws CheckpointError where it is damaged and options.fallback or an older one is missing,
  // where it doesn't fit the model, or was made from another dataset (the weights alone: with
  // another tokenizer, or without one and with another number of ids).
  Progress start();

  // Saves a checkpoint; with options.async only begins to, once the one before is whole.
  void save(const Progress& progress);
  // At each step: whether a checkpoint that was begun is whole now, or has failed on some rank.
  void poll();
  // Waits for a checkpoint that was begun.
  void finish();
  // Of the checkpoint that was begun, saved or loaded last; -1 if there is none.
  int64_t last_step() const { return last_step_; }

 private:
  std::vector<int64_t> saved_steps() const;
  Progress resume(const std::filesystem::path& checkpoint);
  void check_same_run(const Checkpoint& checkpoint) const;
  void check_tokenizer() const;
  void check_vocabulary(const Checkpoint& there) const;
  CheckpointSaver& saver();

  Options options_;
  std::vector<Weight*> weights_;
  Optimizer& optimizer_;
  const Groups& groups_;
  std::vector<int64_t> damaged_;  // steps
  int64_t last_step_ = -1;
  std::optional<CheckpointSaver> saver_;
};

// Loads the weights of one checkpoint, whatever layout wrote it. Every rank calls it.
//   returns  how far its run had come
Progress load_weights(const std::filesystem::path& checkpoint, const std::vector<Weight*>& weights,
                      Collectives& world, const LoadOptions& options = {});

}  // namespace switchyard
