// Whole training steps, timed: what `switchyard bench` measures. No evaluation, no checkpoint.
#pragma once

#include <vector>

#include "base/tracer.h"
#include "report/records.h"
#include "trainer/train_step.h"

namespace switchyard {

struct BenchmarkOptions {
  int64_t warmup = 0;          // steps before those that are timed
  int64_t steps = 1;           // timed
  bool with_optimizer = true;  // else weights stay as they are and a step ends with its gradients
};

// Of the timed steps. A step lasts until the slowest rank has ended it; all begin together.
struct BenchmarkResult {
  std::vector<double> step_seconds;                                 // of each step
  std::vector<double> optimizer_seconds, forward_backward_seconds;  // its two parts
  double tokens_per_step = 0;  // real ones, encoder's and decoder's
  double flops_per_step = 0;   // of the products that all ranks executed
  std::vector<double>
      rows_by_rank;  // that a rank's experts computed in a step, forward, all layers
  ProfileRecord profile;

  // Most over mean of rows_by_rank; 1 where there are no experts.
  double load_imbalance() const;
};

// Every rank calls it; the same result on each.
//   tracer  the step's own; restarted
BenchmarkResult run_benchmark(TrainStep& step, Model& model, Collectives& world, Tracer& tracer,
                              const BenchmarkOptions& options);

double median(std::vector<double> values);

}  // namespace switchyard
