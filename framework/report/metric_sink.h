// Where a run's records go. Only rank 0 has sinks. A sink throws SpaceError when it can't write.
#pragma once

#include "report/records.h"

namespace switchyard {

class MetricSink {
 public:
  virtual ~MetricSink() = default;
  // Comes first. Training begins after `step` updates: 0, or where a checkpoint left off. Records
  // that an interrupted process wrote for later steps are superseded.
  virtual void start(int64_t /*step*/) {}
  virtual void step(const StepRecord& record) = 0;
  virtual void evaluation(const EvaluationRecord& record) = 0;
};

}  // namespace switchyard
