// One update of the weights from one global batch: forward and backward over the micro-batches, sum
// of gradients over ranks, clipping, optimizer.
#pragma once

#include <optional>

#include "data/token_source.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "report/records.h"
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
  };
  TrainStep(const TrainingParts& parts, const Options& options);

  // Every rank calls it. Returns the same record on every rank.
  //   number  0 for the first update of the run
  StepRecord run(int64_t number);

  // The two halves of run, for those who compare gradients: accumulate leaves summed gradients in
  // the weights, update applies them.
  StepRecord accumulate(int64_t number);
  void update(int64_t number, StepRecord& record);

  size_t workspace_bytes() const { return workspace_.capacity_bytes(); }

 private:
  // Sums over the targets of a step so far, on this rank.
  struct LossSums {
    double cross_entropy = 0, output_z = 0;
  };
  void run_micro_batch(int64_t number, const MicroBatch& batch, double gradient_scale,
                       LossSums& sums);

  TrainingParts parts_;
  Options options_;
  std::vector<Weight*> weights_;
  std::vector<MoeLayer*> moe_layers_;
  Workspace workspace_;
};

}  // namespace switchyard
