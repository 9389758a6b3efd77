// Where the records of a training run go.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/training_run.h"
#include "report/console_sink.h"

namespace switchyard {

// The style that --progress names. Throws ConfigError.
ProgressStyle progress_style(const std::string& name);

// The sinks of rank 0, whose run directory is there. They write nothing before Trainer::run().
//   traced  the data of a run that traces its routing; null: it doesn't. Must outlive them.
std::vector<std::unique_ptr<MetricSink>> make_metric_sinks(const Config& config,
                                                           const RunDirectory& directory,
                                                           ProgressStyle style,
                                                           const RunData* traced = nullptr);

// Keeps which tokens and labels each expert takes; `data` must outlive it.
std::unique_ptr<MetricSink> make_routing_trace_sink(const std::filesystem::path& path,
                                                    const RunData& data);

}  // namespace switchyard
