// TensorBoard event files in the run's tensorboard/ folder: losses, speeds and each MoE layer's
// balance as scalars, the layers' expert load as histograms, the config as text. Tags:
// docs/reference/metrics.md.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "report/event_file.h"
#include "report/metric_sink.h"

namespace switchyard {

class TensorboardSink : public MetricSink {
 public:
  struct Options {
    std::filesystem::path folder;
    std::string config_text;  // YAML
    int64_t every = 1;        // steps between records of the layers; the rest is of every step
    int64_t total_steps = 0;  // of the run
  };
  explicit TensorboardSink(Options options) : options_(std::move(options)) {}

  // Opens a file of its own for this process; readers forget the superseded records of earlier
  // ones. Throws SpaceError.
  void start(const StartRecord& record) override;
  void step(const StepRecord& record) override;
  void evaluation(const EvaluationRecord& record) override;

 private:
  Options options_;
  std::unique_ptr<EventFile> file_;
};

}  // namespace switchyard
