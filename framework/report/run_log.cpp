#include "report/run_log.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/errors.h"

namespace switchyard {

using nlohmann::json;

namespace {

constexpr int64_t kMostSpans = 96, kLeastSpans = 12, kLoadCells = 40'000;
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double number(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : kUnknown;
}

int64_t integer(const json& object, const char* key) {
  const double value = number(object, key);
  return std::isfinite(value) ? static_cast<int64_t>(value) : 0;
}

enum class Kind { kNone, kStart, kStep, kEvaluation, kProfile };

// Finds out what a line is from its outermost keys and stops there: most of a line is its layers.
class Head : public nlohmann::json_sax<json> {
 public:
  Kind kind = Kind::kNone;
  std::optional<int64_t> step;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t value) override { return take(value); }
  bool number_unsigned(uint64_t value) override { return take(static_cast<int64_t>(value)); }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(json::binary_t&) override { return true; }
  bool start_object(size_t) override { return ++depth_ > 0; }
  bool end_object() override { return --depth_ > 0; }
  bool start_array(size_t) override { return ++depth_ > 0; }
  bool end_array() override { return --depth_ > 0; }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }
  bool key(std::string& key) override {
    if (depth_ != 1) return true;
    if (key == "loss") kind = Kind::kStep;
    if (key == "validation.loss") kind = Kind::kEvaluation;
    if (key == "profile.step_seconds") kind = Kind::kProfile;
    if (key == "start.step") kind = Kind::kStart;
    of_step_ = key == "step" || key == "start.step";
    return !known();
  }

 private:
  bool known() const { return kind != Kind::kNone && step; }
  bool take(int64_t value) {
    if (of_step_ && depth_ == 1) step = value;
    of_step_ = false;
    return !known();
  }

  int depth_ = 0;
  bool of_step_ = false;
};

struct Line {
  Kind kind;
  int64_t step;
  std::streamoff offset;
};

// Which lines count, in the file's order.
std::vector<Line> live_lines(std::ifstream& file) {
  std::vector<Line> lines;
  std::string text;
  int64_t last = -1;  // step of the lines so far
  for (std::streamoff offset = 0; std::getline(file, text);) {
    Head head;
    json::sax_parse(text, &head);
    // A line without its end, or one that can't be told, is kept to be counted as unreadable.
    if (file.eof() || !head.step) head.kind = Kind::kNone;
    const int64_t step = head.step.value_or(0);
    if (head.kind == Kind::kStart || head.kind == Kind::kStep) {
      const int64_t from = step + (head.kind == Kind::kStart ? 1 : 0);
      // Starts stay: how often a run was resumed is worth knowing.
      if (from <= last) {
        std::erase_if(lines, [&](const Line& line) {
          return line.kind != Kind::kStart && line.kind != Kind::kNone && line.step >= from;
        });
      }
      last = step;
    }
    lines.push_back({head.kind, step, offset});
    offset += static_cast<std::streamoff>(text.size()) + 1;
  }
  return lines;
}

std::vector<double> numbers(const json& object, const char* key) {
  std::vector<double> values;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return values;
  for (const json& value : *found) values.push_back(value.is_number() ? value.get<double>() : 0.0);
  return values;
}

const json& layers_of(const json& line, const char* key) {
  static const json none = json::array();
  const auto found = line.find(key);
  return found != line.end() && found->is_array() ? *found : none;
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

StartRecord start_of(const json& line) {
  return {.step = integer(line, "start.step"),
          .steps = integer(line, "start.steps"),
          .ranks = integer(line, "start.ranks"),
          .expert_group = integer(line, "start.expert_group"),
          .threads = integer(line, "start.threads"),
          .device = text_of(line, "start.device"),
          .parameters = integer(line, "start.parameters")};
}

std::vector<int64_t> counts(const json& list) {
  std::vector<int64_t> values;
  for (const json& value : list) values.push_back(value.is_number() ? value.get<int64_t>() : 0);
  return values;
}

LayerRecord evaluated_layer(const json& layer, const std::vector<LabelRecord>& labels) {
  LayerRecord record;
  record.name = text_of(layer, "name");
  record.router_entropy = number(layer, "router_entropy");
  record.dropped_share = number(layer, "dropped_share");
  const auto by_label = layer.find("load_by_label");
  if (by_label == layer.end() || !by_label->is_object()) return record;
  for (const LabelRecord& label : labels) {
    const auto row = by_label->find(label.name);
    if (row == by_label->end() || !row->is_array()) return record;
    record.load_by_label.push_back(counts(*row));
    if (record.load_by_label.back().size() != record.load_by_label.front().size()) {
      record.load_by_label.clear();
      return record;
    }
  }
  return record;
}

EvaluationRecord evaluation_of(const json& line) {
  EvaluationRecord record{.step = integer(line, "step"),
                          .loss = number(line, "validation.loss"),
                          .target_tokens = integer(line, "validation.target_tokens"),
                          .sequences = integer(line, "validation.sequences"),
                          .seconds = number(line, "validation.seconds"),
                          .dropped_share = number(line, "validation.dropped_share"),
                          .unigram_entropy = number(line, "validation.unigram_entropy")};
  const auto labels = line.find("validation.labels");
  if (labels != line.end() && labels->is_object()) {
    for (const auto& [name, label] : labels->items()) {
      if (!label.is_object()) continue;
      record.labels.push_back({.name = name,
                               .loss = number(label, "loss"),
                               .target_tokens = integer(label, "target_tokens")});
    }
  }
  for (const json& layer : layers_of(line, "validation.moe")) {
    if (layer.is_object()) record.layers.push_back(evaluated_layer(layer, record.labels));
  }
  return record;
}

ProfileRecord profile_of(const json& line) {
  ProfileRecord record{.step = integer(line, "step"),
                       .steps = integer(line, "profile.steps"),
                       .ranks = integer(line, "profile.ranks"),
                       .step_seconds = number(line, "profile.step_seconds"),
                       .accounted = number(line, "profile.accounted")};
  const auto phases = line.find("profile.phases");
  if (phases == line.end() || !phases->is_object()) return record;
  for (const auto& [name, phase] : phases->items()) {
    if (!phase.is_object()) continue;
    record.phases.push_back({.name = name,
                             .seconds = number(phase, "seconds"),
                             .least = number(phase, "least"),
                             .most = number(phase, "most")});
  }
  return record;
}

bool inputs_shuffled(const json& line) {
  const auto found = line.find("validation.inputs_shuffled");
  return found != line.end() && found->is_boolean() && found->get<bool>();
}

// Fills a log from the lines that count.
class Reader {
 public:
  Reader(RunLog& log, std::vector<int64_t> steps) : log_(log) { log_.steps = std::move(steps); }

  void start(const json& line) { log_.starts.push_back(start_of(line)); }
  void evaluation(const json& line) {
    if (!inputs_shuffled(line)) log_.evaluations.push_back(evaluation_of(line));
  }
  void profile(const json& line) { log_.profile = profile_of(line); }
  void step(size_t index, const json& line) {
    set(log_.loss, index, number(line, "loss"));
    set(log_.load_balance, index, number(line, "load_balance"));
    set(log_.router_z, index, number(line, "router_z"));
    set(log_.importance, index, number(line, "importance"));
    set(log_.load_loss, index, number(line, "load_loss"));
    set(log_.learning_rate, index, number(line, "learning_rate"));
    set(log_.gradient_norm, index, number(line, "gradient_norm"));
    set(log_.seconds, index, number(line, "seconds"));
    set(log_.tokens, index, number(line, "tokens"));
    set(log_.flops, index, number(line, "flops"));
    set(log_.dropped_share, index, number(line, "dropped_share"));
    const auto skipped = line.find("skipped");
    if (skipped != line.end() && skipped->is_boolean() && skipped->get<bool>()) {
      log_.skipped.push_back(log_.steps[index]);
    }
    const json& layers = layers_of(line, "moe");
    if (log_.layers.empty()) begin_layers(layers);
    for (size_t l = 0; l < std::min(layers.size(), log_.layers.size()); ++l) {
      if (layers[l].is_object()) add_layer(index, layers[l], log_.layers[l]);
    }
  }

 private:
  template <typename T>
  void set(std::vector<T>& list, size_t index, double value) {
    if (list.empty()) list.assign(log_.steps.size(), static_cast<T>(kUnknown));
    list[index] = static_cast<T>(value);
  }

  void begin_layers(const json& layers) {
    log_.layers.resize(layers.size());
    for (size_t l = 0; l < layers.size(); ++l) {
      log_.layers[l].name = text_of(layers[l], "name");
      log_.layers[l].recent_load.resize(numbers(layers[l], "load").size());
    }
    for (LayerLog& layer : log_.layers) {
      layer.load.resize(static_cast<size_t>(log_.spans()) * layer.recent_load.size());
    }
  }

  void add_layer(size_t index, const json& line, LayerLog& layer) {
    set(layer.dropped_share, index, number(line, "dropped_share"));
    set(layer.router_entropy, index, number(line, "router_entropy"));
    set(layer.dead_experts, index, number(line, "dead_experts"));
    const std::vector<double> load = numbers(line, "load");
    const size_t experts = layer.recent_load.size();
    if (load.size() != experts) return;  // another model has written into the folder
    const auto spans = static_cast<size_t>(log_.spans());
    const size_t span = index * spans / log_.steps.size();
    const bool recent = index >= log_.steps.size() - (log_.steps.size() + 9) / 10;
    for (size_t e = 0; e < experts; ++e) {
      layer.load[span * experts + e] += load[e];
      if (recent) layer.recent_load[e] += load[e];
    }
  }

  RunLog& log_;
};

std::string read_text(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace

int64_t RunLog::experts() const {
  int64_t most = 0;
  for (const LayerLog& layer : layers) most = std::max(most, ssize_of(layer.recent_load));
  return most;
}

int64_t RunLog::spans() const {
  const int64_t cells = std::max<int64_t>(ssize_of(layers) * experts(), 1);
  const int64_t affordable = std::clamp(kLoadCells / cells, kLeastSpans, kMostSpans);
  return std::min(affordable, std::max<int64_t>(ssize_of(steps), 1));
}

int64_t RunLog::span_begin(int64_t span) const {
  if (steps.empty()) return 0;
  if (span >= spans()) return steps.back() + 1;
  // The first index i with i * spans / count == span.
  const int64_t index = (span * ssize_of(steps) + spans() - 1) / spans();
  return steps[static_cast<size_t>(index)];
}

int64_t RunLog::planned_steps() const { return starts.empty() ? last_step() : starts.back().steps; }

RunLog read_run_log(const std::filesystem::path& run_directory) {
  const std::filesystem::path metrics = run_directory / "metrics.jsonl";
  const bool regular = std::filesystem::is_regular_file(metrics);  // a device could be endless
  std::ifstream file(metrics, std::ios::binary);
  if (!regular || !file) {
    throw InputError("the run has no metrics", metrics.string(),
                     "name a run's folder, such as runs/quickstart");
  }
  RunLog log;
  log.name = std::filesystem::canonical(run_directory).filename().string();
  log.config_text = read_text(run_directory / "config.yaml");
  const std::filesystem::path routing = run_directory / kRoutingTraceFile;
  if (std::filesystem::exists(routing)) log.routing = read_routing_trace(routing);
  const std::vector<Line> lines = live_lines(file);
  file.clear();

  std::vector<int64_t> steps;
  for (const Line& line : lines) {
    if (line.kind == Kind::kStep) steps.push_back(line.step);
  }
  if (steps.empty()) {
    throw InputError("the run's metrics hold no step yet", metrics.string(), "train it first");
  }
  Reader reader(log, std::move(steps));
  std::string text;
  size_t index = 0;
  for (const Line& line : lines) {
    file.seekg(line.offset);
    std::getline(file, text);
    const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) {
      ++log.unreadable_lines;
    } else if (line.kind == Kind::kStart) {
      reader.start(parsed);
    } else if (line.kind == Kind::kEvaluation) {
      reader.evaluation(parsed);
    } else if (line.kind == Kind::kProfile) {
      reader.profile(parsed);
    } else if (line.kind == Kind::kStep) {
      reader.step(index, parsed);
    }
    if (line.kind == Kind::kStep) ++index;
  }
  return log;
}

}  // namespace switchyard
