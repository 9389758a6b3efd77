// What people read while a run goes on: a progress bar on a terminal, else a line every few steps;
// a few lines for every evaluation; a warning where experts get no token.
#pragma once

#include <vector>

#include "base/timer.h"
#include "report/metric_sink.h"
#include "report/progress_meter.h"

namespace switchyard {

enum class ProgressStyle {
  kAuto,   // a bar on a terminal, else lines
  kBar,    // redrawn in place
  kLines,  // no control characters
  kNone,   // evaluations and warnings only
};

class ConsoleSink : public MetricSink {
 public:
  struct Options {
    int64_t every = 1;        // steps between lines; the first and the last step always have one
    int64_t total_steps = 0;  // of the run
    ProgressStyle style = ProgressStyle::kLines;
  };
  explicit ConsoleSink(const Options& options);
  // Takes the bar away.
  ~ConsoleSink() override;

  // The lines go to this rank's log file too, whatever the style.
  void step(const StepRecord& record) override;
  void evaluation(const EvaluationRecord& record) override;
  void profile(const ProfileRecord& record) override;

 private:
  // The tokens of each expert since the last whole interval between lines.
  class Interval {
   public:
    void add(const StepRecord& record);
    int64_t steps() const { return steps_; }
    // "encoder.block.1.moe 3 5; decoder.block.1.moe 2", or nothing where every expert had some.
    std::string dead_experts() const;

   private:
    int64_t steps_ = 0;
    std::vector<LayerRecord> layers_;  // name, and load summed up
  };
  void draw();
  void warn_of_dead_experts(int64_t step);

  Options options_;
  ProgressMeter progress_;
  Timer since_drawn_;
  Interval interval_;
  std::string dead_before_;
};

}  // namespace switchyard
