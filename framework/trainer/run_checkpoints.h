// A run's checkpoints: what goes into one, and picking up where the last one left off.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/hash.h"
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
    std::string config_text;  // resolved
    Digest dataset_hash;
    std::filesystem::path tokenizer;
    // Of another run: where this one starts while it has no checkpoint itself. Empty: from its
    // initial weights.
    std::filesystem::path from;
    uint64_t seed = 0;
    int64_t batch_sequences = 0;
  };
  // The model and optimizer must outlive it.
  RunCheckpoints(const Options& options, std::vector<Weight*> weights, Optimizer& optimizer,
                 const Groups& groups);

  // Every rank calls these. Returns where the checkpoint is.
  std::filesystem::path save(const Progress& progress);
  // Loads the run's latest checkpoint, weights and optimizer state, if there is one; else the
  // weights alone of options.from, if given. Says so in one line.
  //   returns  how far the run has come: none for weights of another run
  // Throws CheckpointError where it doesn't fit the model, or was made from another dataset (the
  // weights alone: with another tokenizer).
  Progress start();

 private:
  Progress resume(const std::filesystem::path& latest);
  void check_tokenizer() const;

  Options options_;
  std::vector<Weight*> weights_;
  Optimizer& optimizer_;
  const Groups& groups_;
};

// Loads the weights of one checkpoint, whatever layout wrote it. Every rank calls it.
//   returns  how far its run had come
Progress load_weights(const std::filesystem::path& checkpoint, const std::vector<Weight*>& weights,
                      Collectives& world);

}  // namespace switchyard
