// metrics.jsonl: one JSON object a line for every start, step and evaluation, flushed as it is
// written. Keys: docs/reference/metrics.md.
#pragma once

#include <filesystem>
#include <fstream>

#include "report/metric_sink.h"

namespace switchyard {

class JsonlSink : public MetricSink {
 public:
  // Appends to the file from start() on. Throws SpaceError.
  explicit JsonlSink(std::filesystem::path path) : path_(std::move(path)) {}

  // Cuts off what an interrupted process wrote for later steps, which are trained again, and a last
  // line that it did not finish; says how many lines that were. So every step stands there once.
  void start(const StartRecord& record) override;
  void step(const StepRecord& record) override;
  void evaluation(const EvaluationRecord& record) override;
  void profile(const ProfileRecord& record) override;

 private:
  void cut_after(int64_t step);
  void write(const std::string& line);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace switchyard
