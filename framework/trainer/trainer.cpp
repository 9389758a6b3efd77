#include "trainer/trainer.h"

#include "base/log.h"

namespace switchyard {

Trainer::Trainer(TrainStep& step, Evaluator& evaluator, RunCheckpoints& checkpoints,
                 std::vector<MetricSink*> sinks, const Options& options)
    : step_(step),
      evaluator_(evaluator),
      checkpoints_(checkpoints),
      sinks_(std::move(sinks)),
      options_(options) {}

static bool due(const std::optional<int64_t>& every, int64_t step) {
  return every && step % *every == 0;
}

void Trainer::run() {
  Progress progress = checkpoints_.start();
  if (progress.steps >= options_.steps) {
    log_info("the run is complete: {} of {} steps", progress.steps, options_.steps);
    return;
  }
  StartRecord start = options_.start;
  start.step = progress.steps;
  for (MetricSink* sink : sinks_) sink->start(start);
  while (progress.steps < options_.steps) {
    const StepRecord record = step_.run(progress.steps);
    progress.steps = record.step;
    if (!record.skipped) progress.target_tokens += record.target_tokens;
    for (MetricSink* sink : sinks_) sink->step(record);
    const bool last = progress.steps == options_.steps;
    if (last || due(options_.evaluate_every, progress.steps)) evaluate(progress.steps);
    if (last || due(options_.checkpoint_every, progress.steps)) save(progress);
  }
}

void Trainer::evaluate(int64_t step) {
  const EvaluationRecord record = evaluator_.run(step);
  for (MetricSink* sink : sinks_) sink->evaluation(record);
}

void Trainer::save(const Progress& progress) {
  log_info("checkpoint {}", checkpoints_.save(progress).string());
}

}  // namespace switchyard
