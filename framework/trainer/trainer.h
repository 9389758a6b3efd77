// The training loop: steps, evaluations and checkpoints in their turn.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "report/metric_sink.h"
#include "trainer/evaluator.h"
#include "trainer/run_checkpoints.h"
#include "trainer/train_step.h"

namespace switchyard {

class Trainer {
 public:
  struct Options {
    int64_t steps = 0;
    std::optional<int64_t> evaluate_every, checkpoint_every;  // besides at the end
    StartRecord start;                                        // for the sinks, but for its step
  };
  // Nothing is owned; only rank 0 needs sinks.
  Trainer(TrainStep& step, Evaluator& evaluator, RunCheckpoints& checkpoints,
          std::vector<MetricSink*> sinks, const Options& options);

  // Trains from where the run's latest checkpoint left off to the last step. Every rank calls it.
  void run();

 private:
  void evaluate(int64_t step);
  void save(const Progress& progress);

  TrainStep& step_;
  Evaluator& evaluator_;
  RunCheckpoints& checkpoints_;
  std::vector<MetricSink*> sinks_;
  Options options_;
};

}  // namespace switchyard
