// A line for people every few steps and for every evaluation.
#pragma once

#include "report/metric_sink.h"

namespace switchyard {

class ConsoleSink : public MetricSink {
 public:
  //   every        steps between lines; the first and the last step always have one
  //   total_steps  of the run
  ConsoleSink(int64_t every, int64_t total_steps) : every_(every), total_steps_(total_steps) {}

  void step(const StepRecord& record) override;
  void evaluation(const EvaluationRecord& record) override;

 private:
  int64_t every_, total_steps_;
  double seconds_ = 0;  // since the last line
  int64_t tokens_ = 0, steps_ = 0;
  double total_seconds_ = 0;
  int64_t total_seen_ = 0;
};

}  // namespace switchyard
