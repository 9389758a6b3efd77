#include "report/jsonl_sink.h"

#include <nlohmann/json.hpp>

#include "base/errors.h"

namespace switchyard {

using nlohmann::ordered_json;

// Every line ends in a newline: what follows the last one is the beginning of a line.
static void remove_cut_line(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return;  // a new file
  std::ifstream file(path, std::ios::binary);
  int64_t end = size;
  const auto ends_a_line = [&] { return file.seekg(end - 1) && file.get() == '\n'; };
  while (end > 0 && !ends_a_line()) --end;
  file.close();
  if (end < size) std::filesystem::resize_file(path, static_cast<uintmax_t>(end), error);
}

static std::ofstream open_to_append(const std::filesystem::path& path) {
  remove_cut_line(path);
  return std::ofstream(path, std::ios::app);
}

JsonlSink::JsonlSink(const std::filesystem::path& path) : path_(path), file_(open_to_append(path)) {
  if (!file_) {
    throw SpaceError("cannot write the metrics file", path.string(),
                     "make the run directory writable or set run.dir");
  }
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
                       {"rows_exchanged", layer.rows_exchanged},
                       {"bytes_exchanged", layer.bytes_exchanged},
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
                             {"learning_rate", record.learning_rate},
                             {"gradient_norm", record.gradient_norm},
                             {"skipped", record.skipped},
                             {"target_tokens", record.target_tokens},
                             {"tokens", record.tokens},
                             {"seconds", record.seconds},
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

void JsonlSink::write(const std::string& line) {
  file_ << line << '\n' << std::flush;
  if (!file_) {
    throw SpaceError("writing the metrics failed", path_.string(), "free some disk space");
  }
}

}  // namespace switchyard
