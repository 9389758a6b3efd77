// The loss over a fixed set of sequences, as a whole and by label. Nothing random is on.
#pragma once

#include <functional>
#include <optional>

#include "data/token_source.h"
#include "data/unigram_entropy.h"
#include "report/records.h"
#include "trainer/micro_batch.h"
#include "trainer/workspace.h"

namespace switchyard {

class Evaluator {
 public:
  struct Options {
    BatchLayout layout;     // of a whole batch; micro_batches 1
    int64_t sequences = 0;  // at most source.epoch_size()
    // Each sequence gets the encoder inputs of another one: how much worse the loss is then shows
    // how much the decoder makes of them.
    bool shuffle_inputs = false;
    bool ordered = false;  // train.reduction: ordered
    // Token ids to count choices by (LayerRecord::load_by_token); 0: don't.
    int64_t trace_tokens = 0;
  };
  Evaluator(Kernels& kernels, const Groups& groups, Model& model, const TokenSource& source,
            const Options& options);

  // Sizes its arenas before the first evaluation, see rehearsal.h. Every rank calls it.
  void rehearse();
  const Workspace& workspace() const { return workspace_; }

  // Every rank calls it; the same record on each.
  //   step  updates made so far, for the record
  EvaluationRecord run(int64_t step);
  // The same, given up if `stop`, asked before each batch, says so: then empty. It must say the
  // same on every rank.
  std::optional<EvaluationRecord> run(int64_t step, const std::function<bool()>& stop);

 private:
  struct Sums;
  void run_batch(const MicroBatch& batch, Sums& sums);
  int64_t all_groups() const;

  Model& model_;
  const Groups& groups_;
  const TokenSource& source_;
  Options options_;
  Workspace workspace_;
  double unigram_entropy_;
};

}  // namespace switchyard
