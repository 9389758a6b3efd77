// One update of the weights from one global batch: forward and backward over the micro-batches, sum
// of gradients over ranks, clipping, optimizer. Where a mixture's load-balance loss has scope
// `global` and there are several micro-batches, a counting forward over all of them comes first,
// whose routing decisions the others replay.
#pragma once

#include <optional>

#include "data/token_source.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "optim/weight_replicas.h"
#include "report/records.h"
#include "trainer/metrics.h"
#include "trainer/micro_batch.h"
#include "trainer/workspace.h"

namespace switchyard {

// The made objects that training works on; none is owned.
struct TrainingParts {
  Kernels& kernels;
  const Groups& groups;
  Model& model;
  Optimizer& optimizer;
  const Schedule& schedule;
  const TokenSource& source;
};

class TrainStep {
 public:
  struct Options {
    BatchLayout layout;
    uint64_t seed = 0;
    std::optional<double> clip_norm;
    bool skip_nonfinite = false;  // else a gradient that isn't finite throws NumericalError
    // train.reduction: ordered, for weights that keep ordered sums.
    bool ordered = false;
    // The optimizer has the weights of WeightReplicas(..., true).updated_here().
    bool shard_updates = false;
    Tracer* tracer = nullptr;  // of this rank; null: nothing is traced
  };
  TrainStep(const TrainingParts& parts, const Options& options);

  // Every rank calls it. Returns the same record on every rank, valid until the next step.
  //   number  0 for the first update of the run
  const StepRecord& run(int64_t number);

  // The two halves of run, for those who compare gradients: accumulate leaves summed gradients in
  // the weights, update applies them.
  StepRecord& accumulate(int64_t number);
  void update(int64_t number, StepRecord& record);

  // Sizes its arenas before the first step, see rehearsal.h. Every rank calls it.
  void rehearse();
  const Workspace& workspace() const { return workspace_; }
  size_t workspace_bytes() const { return workspace_.capacity_bytes(); }
  size_t saved_high_water_bytes() const { return workspace_.saved_high_water_bytes(); }

 private:
  // Sums over the targets of a step so far, on this rank.
  struct LossSums {
    double cross_entropy = 0, output_z = 0;
  };
  using Decisions = std::vector<MoeDecisions>;  // of every mixture, for one micro-batch

  // Fills decided_, by micro-batch.
  void count_loads(int64_t number);
  // Sums what the mixtures saw of the global batch over all ranks, for their losses.
  void share_loads(int64_t number);
  //   decided  of an earlier forward, to be replayed; null: to be made
  void run_micro_batch(int64_t number, const MicroBatch& batch, double gradient_scale,
                       const Decisions* decided, LossSums& sums);

  TrainingParts parts_;
  Options options_;
  std::vector<Weight*> weights_;
  WeightReplicas replicas_;
  std::vector<MoeLayer*> moe_layers_;
  bool needs_global_loads_ = false;
  Workspace workspace_;
  // Of one step; the next one uses their memory.
  std::vector<MicroBatch> batches_;
  std::vector<MoeDecisions*> model_decisions_;  // the model's own, of the current micro-batch
  std::vector<Decisions> decided_;
  std::vector<double> loads_;
  GlobalLoad load_;
  LayerSummary summary_;
  StepRecord record_;
};

}  // namespace switchyard
