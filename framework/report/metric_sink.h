// Where a run's records go. Only rank 0 has sinks. A sink throws SpaceError when it can't write.
#pragma once

#include "report/records.h"

namespace switchyard {

class MetricSink {
 public:
  virtual ~MetricSink() = default;
  // Before the first step of every process that works on the run. Records that an interrupted
  // process wrote for steps after record.step are superseded.
  virtual void start(const StartRecord& /*record*/) {}
  virtual void step(const StepRecord& record) = 0;
  virtual void evaluation(const EvaluationRecord& record) = 0;
  // At the end of a process that was profiled.
  virtual void profile(const ProfileRecord& /*record*/) {}
};

}  // namespace switchyard
