// The training loop: steps, evaluations and checkpoints in their turn.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "report/metric_sink.h"
#include "trainer/evaluator.h"
#include "trainer/run_checkpoints.h"
#include "trainer/stop_vote.h"
#include "trainer/train_step.h"

namespace switchyard {

class Trainer {
 public:
  struct Options {
    int64_t steps = 0;
    std::optional<int64_t> evaluate_every, checkpoint_every;  // besides at the end
    StartRecord start;                                        // for the sinks, but for its step
    Tracer* tracer = nullptr;  // of this rank, the step's too; null: nothing is traced
  };
  // Nothing is owned; only rank 0 needs sinks.
  Trainer(TrainStep& step, Evaluator& evaluator, RunCheckpoints& checkpoints,
          std::vector<MetricSink*> sinks, StopVote& stop, const Options& options);

  enum class Ending : uint8_t { kComplete, kStopped };

  // Trains from where the run's latest checkpoint left off to the last step, or until the ranks
  // agree to stop, which is after a checkpoint. Every rank calls it; the same ending on each.
  Ending run();

 private:
  Ending train(Progress progress);
  void keep(const StepRecord& record);
  bool evaluate(int64_t step);
  void save(const Progress& progress);
  // Between steps: whether the ranks agree to stop.
  bool stops();
  Ending stop_early(const Progress& progress);

  TrainStep& step_;
  Evaluator& evaluator_;
  RunCheckpoints& checkpoints_;
  std::vector<MetricSink*> sinks_;
  StopVote& stop_;
  Options options_;
};

}  // namespace switchyard
