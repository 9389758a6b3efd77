#include "trainer/trainer.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/stop_signal.h"

namespace switchyard {

Trainer::Trainer(TrainStep& step, Evaluator& evaluator, RunCheckpoints& checkpoints,
                 std::vector<MetricSink*> sinks, StopVote& stop, const Options& options)
    : step_(step),
      evaluator_(evaluator),
      checkpoints_(checkpoints),
      sinks_(std::move(sinks)),
      stop_(stop),
      options_(options) {}

static bool due(const std::optional<int64_t>& every, int64_t step) {
  return every && step % *every == 0;
}

Trainer::Ending Trainer::run() {
  const Progress progress = checkpoints_.start();
  if (progress.steps >= options_.steps) {
    log_info("the run is complete: {} of {} steps", progress.steps, options_.steps);
    return Ending::kComplete;
  }
  StartRecord start = options_.start;
  start.step = progress.steps;
  for (MetricSink* sink : sinks_) sink->start(start);
  try {
    return train(progress);
  } catch (const NumericalError&) {
    // It comes of what the ranks have summed, so all of them are here: what was saved before it is
    // the more worth ending.
    checkpoints_.finish();
    throw;
  }
}

Trainer::Ending Trainer::train(Progress progress) {
  while (progress.steps < options_.steps) {
    const Span span(options_.tracer, Phase::kOther, "step", progress.steps);
    if (stops()) return stop_early(progress);
    const StepRecord& record = step_.run(progress.steps);
    progress.steps = record.step;
    if (!record.skipped) progress.target_tokens += record.target_tokens;
    keep(record);
    const bool last = progress.steps == options_.steps;
    const bool evaluates = last || due(options_.evaluate_every, progress.steps);
    if (evaluates && !evaluate(progress.steps)) return stop_early(progress);
    if (last || due(options_.checkpoint_every, progress.steps)) save(progress);
  }
  checkpoints_.finish();
  return Ending::kComplete;
}

bool Trainer::stops() {
  Span span(options_.tracer, Phase::kCheckpoint);
  checkpoints_.poll();
  span.then(Phase::kMetrics);
  return stop_.agreed() != 0;
}

void Trainer::keep(const StepRecord& record) {
  const Span span(options_.tracer, Phase::kMetrics);
  for (MetricSink* sink : sinks_) sink->step(record);
}

void Trainer::save(const Progress& progress) {
  const Span span(options_.tracer, Phase::kCheckpoint);
  checkpoints_.save(progress);
}

// Returns false if the ranks agree to stop before it has ended.
bool Trainer::evaluate(int64_t step) {
  const Span span(options_.tracer, Phase::kEvaluation);
  const auto record = evaluator_.run(step, [this] { return stop_.agreed() != 0; });
  if (!record) {
    log_info("the evaluation at step {} was given up: `switchyard eval` makes up for it", step);
    return false;
  }
  for (MetricSink* sink : sinks_) sink->evaluation(*record);
  return true;
}

Trainer::Ending Trainer::stop_early(const Progress& progress) {
  const bool saved = progress.steps == 0 || checkpoints_.last_step() == progress.steps;
  if (!saved) save(progress);
  checkpoints_.finish();
  log_info("stopped by {} after step {} of {}: the same command goes on from there",
           signal_name(stop_.agreed()), progress.steps, options_.steps);
  return Ending::kStopped;
}

}  // namespace switchyard
