#include "cli/metric_sinks.h"

#include "config/suggest.h"
#include "report/jsonl_sink.h"
#include "report/routing_trace.h"
#include "report/tensorboard_sink.h"

namespace switchyard {

ProgressStyle progress_style(const std::string& name) {
  if (name == "auto") return ProgressStyle::kAuto;
  if (name == "bar") return ProgressStyle::kBar;
  if (name == "lines") return ProgressStyle::kLines;
  if (name == "none") return ProgressStyle::kNone;
  throw ConfigError("there is no progress style '" + printable(name) + "'", "--progress",
                    "use auto, bar, lines or none");
}

std::vector<std::unique_ptr<MetricSink>> make_metric_sinks(const Config& config,
                                                           const RunDirectory& directory,
                                                           ProgressStyle style,
                                                           const RunData* traced) {
  const TrainConfig& train = config.train;
  std::vector<std::unique_ptr<MetricSink>> sinks;
  sinks.push_back(std::make_unique<ConsoleSink>(
      ConsoleSink::Options{.every = train.log_every, .total_steps = train.steps, .style = style}));
  sinks.push_back(std::make_unique<JsonlSink>(directory.metrics()));
  if (config.run.tensorboard) {
    sinks.push_back(std::make_unique<TensorboardSink>(
        TensorboardSink::Options{.folder = directory.tensorboard(),
                                 .config_text = to_yaml(config),
                                 .every = train.log_every,
                                 .total_steps = train.steps}));
  }
  if (traced) sinks.push_back(make_routing_trace_sink(directory.routing(), *traced));
  return sinks;
}

std::unique_ptr<MetricSink> make_routing_trace_sink(const std::filesystem::path& path,
                                                    const RunData& data) {
  const Dataset& dataset = *data.datasets.front();
  std::function<std::string(int32_t)> piece;
  if (dataset.has_tokenizer()) {
    piece = [&dataset](int32_t id) { return dataset.tokenizer().piece(id); };
  }
  return std::make_unique<RoutingTraceSink>(path, std::move(piece));
}

}  // namespace switchyard
