#include "report/jsonl_sink.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/errors.h"
#include "base/log.h"

namespace switchyard {

using nlohmann::ordered_json;

// The step of a line that this sink wrote; empty for anything else. Files of long runs are large,
// so that the line isn't parsed.
static std::optional<int64_t> step_of(std::string_view line) {
  constexpr std::string_view kStart = "{\"step\":";
  if (!line.starts_with(kStart)) return {};
  int64_t step = 0;
  const auto [end, error] =
      std::from_chars(line.data() + kStart.size(), line.data() + line.size(), step);
  if (error != std::errc() || end == line.data() + line.size() || *end != ',') return {};
  return step;
}

// The lines are in the order of their steps.
void JsonlSink::cut_after(int64_t step) {
  if (!std::filesystem::is_regular_file(path_)) return;
  std::ifstream in(path_, std::ios::binary);
  uintmax_t kept = 0;
  int64_t dropped = 0;
  bool unfinished = false;
  for (std::string line; std::getline(in, line);) {
    unfinished = in.eof();
    const std::optional<int64_t> here = step_of(line);
    if (dropped > 0 || unfinished || (here && *here > step)) {
      ++dropped;
    } else {
      kept += line.size() + 1;
    }
  }
  if (dropped == 0) return;
  std::error_code error;
  std::filesystem::resize_file(path_, kept, error);
  if (error) {
    throw SpaceError("cannot shorten the metrics file: " + error.message(), path_.string(),
                     "make it writable, or move it away");
  }
  log_info("{}: {} lines after step {} dropped{}, these steps are trained again", path_.string(),
           dropped, step, unfinished ? " (the last one unfinished)" : "");
}

static ordered_json json_of(const LayerRecord& layer, const std::vector<LabelRecord>& labels) {
  ordered_json json = {{"name", layer.name},
                       {"load", layer.load},
                       {"max_over_mean_load", layer.max_over_mean_load},
                       {"load_variation", layer.load_variation},
                       {"dead_experts", layer.dead_experts},
                       {"dropped_share", layer.dropped_share},
                       {"dropped_by_choice", layer.dropped_by_choice},
                       {"weight_lost_share", layer.weight_lost_share},
                       {"router_entropy", layer.router_entropy},
                       {"top_probability", layer.top_probability},
                       {"load_balance", layer.load_balance},
                       {"router_z", layer.router_z},
                       {"importance", layer.importance},
                       {"load_loss", layer.load_loss},
                       {"rows_exchanged", layer.rows_exchanged},
                       {"bytes_exchanged", layer.bytes_exchanged},
                       {"bytes_exchanged_again", layer.bytes_exchanged_again},
                       {"rank_imbalance", layer.rank_imbalance}};
  for (size_t l = 0; l < layer.load_by_label.size(); ++l) {
    json["load_by_label"][labels.at(l).name] = layer.load_by_label[l];
  }
  return json;
}

static ordered_json json_of(const std::vector<LayerRecord>& layers,
                            const std::vector<LabelRecord>& labels = {}) {
  ordered_json list = ordered_json::array();
  for (const LayerRecord& layer : layers) list.push_back(json_of(layer, labels));
  return list;
}

void JsonlSink::start(const StartRecord& record) {
  cut_after(record.step);
  file_.open(path_, std::ios::app);
  if (!file_) {
    throw SpaceError("cannot write the metrics file", path_.string(),
                     "make the run directory writable or set run.dir");
  }
  const ordered_json line = {{"start.step", record.step},
                             {"start.steps", record.steps},
                             {"start.ranks", record.ranks},
                             {"start.expert_group", record.expert_group},
                             {"start.threads", record.threads},
                             {"start.device", record.device},
                             {"start.parameters", record.parameters}};
  write(line.dump());
}

void JsonlSink::step(const StepRecord& record) {
  const ordered_json line = {{"step", record.step},
                             {"loss", record.loss},
                             {"load_balance", record.load_balance},
                             {"router_z", record.router_z},
                             {"importance", record.importance},
                             {"load_loss", record.load_loss},
                             {"output_z", record.output_z},
                             {"learning_rate", record.learning_rate},
                             {"gradient_norm", record.gradient_norm},
                             {"skipped", record.skipped},
                             {"target_tokens", record.target_tokens},
                             {"tokens", record.tokens},
                             {"seconds", record.seconds},
                             {"counting_seconds", record.counting_seconds},
                             {"flops", record.flops},
                             {"dropped_share", record.dropped_share},
                             {"rows_exchanged", record.rows_exchanged},
                             {"moe", json_of(record.layers)}};
  write(line.dump());
}

void JsonlSink::evaluation(const EvaluationRecord& record) {
  ordered_json labels = ordered_json::object();
  for (const LabelRecord& label : record.labels) {
    labels[label.name] = {{"loss", label.loss}, {"target_tokens", label.target_tokens}};
  }
  const ordered_json line = {{"step", record.step},
                             {"validation.loss", record.loss},
                             {"validation.target_tokens", record.target_tokens},
                             {"validation.sequences", record.sequences},
                             {"validation.seconds", record.seconds},
                             {"validation.dropped_share", record.dropped_share},
                             {"validation.unigram_entropy", record.unigram_entropy},
                             {"validation.inputs_shuffled", record.inputs_shuffled},
                             {"validation.labels", labels},
                             {"validation.moe", json_of(record.layers, record.labels)}};
  write(line.dump());
}

void JsonlSink::profile(const ProfileRecord& record) {
  ordered_json phases = ordered_json::object();
  for (const PhaseRecord& phase : record.phases) {
    phases[phase.name] = {{"seconds", phase.seconds}, {"least", phase.least}, {"most", phase.most}};
  }
  const ordered_json line = {{"step", record.step},
                             {"profile.step_seconds", record.step_seconds},
                             {"profile.steps", record.steps},
                             {"profile.ranks", record.ranks},
                             {"profile.accounted", record.accounted},
                             {"profile.phases", phases}};
  write(line.dump());
}

void JsonlSink::write(const std::string& line) {
  file_ << line << '\n' << std::flush;
  if (!file_) {
    throw SpaceError("writing the metrics failed", path_.string(), "free some disk space");
  }
}

}  // namespace switchyard
