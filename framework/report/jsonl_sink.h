// metrics.jsonl: one JSON object a line for every start, step and evaluation, flushed as it is
// written. Keys: docs/reference/metrics.md.
#pragma once

#include <filesystem>
#include <fstream>

#include "report/metric_sink.h"

namespace switchyard {

class JsonlSink : public MetricSink {
 public:
  // Appends to the file, after taking away what a killed process left of its last line. A resumed
  // run's lines follow the interrupted one's; where a step stands twice, the later line counts.
  // Throws SpaceError.
  explicit JsonlSink(const std::filesystem::path& path);

  void start(const StartRecord& record) override;
  void step(const StepRecord& record) override;
  void evaluation(const EvaluationRecord& record) override;

 private:
  void write(const std::string& line);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace switchyard
