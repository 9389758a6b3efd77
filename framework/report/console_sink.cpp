#include "report/console_sink.h"

#include "base/log.h"
#include "report/profile_table.h"
#include "report/specialisation.h"

namespace switchyard {

namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr size_t kLongestLine = 200;
constexpr int kAssumedColumns = 80;  // of a terminal that doesn't tell

// As many items to a line as fit, each line beginning with `start`.
void log_items(const std::string& start, const std::vector<std::string>& items) {
  std::string line = start;
  for (const std::string& item : items) {
    if (line.size() > start.size() && line.size() + item.size() > kLongestLine) {
      log_info(line);
      line = start;
    }
    line += item;
  }
  if (line.size() > start.size()) log_info(line);
}

}  // namespace

void ConsoleSink::Interval::add(const StepRecord& record) {
  ++steps_;
  if (layers_.empty()) {
    layers_ = record.layers;
    return;
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (size_t e = 0; e < layers_[i].load.size(); ++e) {
      layers_[i].load[e] += record.layers[i].load[e];
    }
  }
}

std::string ConsoleSink::Interval::dead_experts() const {
  std::string list;
  for (const LayerRecord& layer : layers_) {
    std::string dead;
    for (size_t e = 0; e < layer.load.size(); ++e) {
      if (layer.load[e] == 0) dead += " " + std::to_string(e);
    }
    if (!dead.empty()) list += (list.empty() ? "" : "; ") + layer.name + dead;
  }
  return list;
}

ConsoleSink::ConsoleSink(const Options& options)
    : options_(options), progress_(options.total_steps) {
  if (options_.style == ProgressStyle::kAuto) {
    options_.style = status_columns() ? ProgressStyle::kBar : ProgressStyle::kLines;
  }
}

ConsoleSink::~ConsoleSink() {
  if (options_.style == ProgressStyle::kBar) show_status("");
}

static void say_what_experts_took(const EvaluationRecord& record) {
  const std::vector<std::string> lines = describe_specialisation(record);
  if (lines.empty()) return;
  log_info(
      "  what experts took: share of a token's label that its expert tells; then each expert's "
      "favourite label, times its share of all tokens");
  for (const std::string& line : lines) log_info("    {}", line);
}

void ConsoleSink::step(const StepRecord& record) {
  if (record.skipped) log_warning("step {}: gradient not finite, update skipped", record.step);
  progress_.add(record);
  interval_.add(record);
  const bool last = record.step == options_.total_steps;
  const bool interval_ends = record.step % options_.every == 0;
  if (interval_ends || last || progress_.steps_seen() == 1) {
    const std::string line = progress_line(progress_.since_last());
    // On a terminal the last line stays where the bar was.
    const bool shown =
        options_.style == ProgressStyle::kLines || (options_.style == ProgressStyle::kBar && last);
    if (last && options_.style == ProgressStyle::kBar) show_status("");
    shown ? log_info(line) : log_to_file(line);
  }
  if (interval_ends) warn_of_dead_experts(record.step);
  if (options_.style == ProgressStyle::kBar && !last) draw();
}

void ConsoleSink::draw() {
  if (progress_.steps_seen() > 1 && since_drawn_.seconds() < kRedrawSeconds) return;
  since_drawn_.restart();
  show_status(progress_bar(progress_.recent(), status_columns().value_or(kAssumedColumns)));
}

void ConsoleSink::warn_of_dead_experts(int64_t step) {
  if (interval_.steps() >= options_.every) {
    const std::string dead = interval_.dead_experts();
    if (!dead.empty() && dead != dead_before_) {
      std::string line = fmt::format("experts without a token in steps {} to {}: {}",
                                     step - interval_.steps() + 1, step, dead);
      if (line.size() > kLongestLine - 12) line = line.substr(0, kLongestLine - 15) + "...";
      log_warning(line);
    }
    dead_before_ = dead;
  }
  interval_ = {};
}

void ConsoleSink::evaluation(const EvaluationRecord& record) {
  progress_.add(record);
  log_info("evaluation at step {}{}: loss {:.4f}, unigram entropy by label {:.4f} ({})",
           record.step, record.inputs_shuffled ? ", encoder inputs shuffled" : "", record.loss,
           record.unigram_entropy, record.loss < record.unigram_entropy ? "below" : "not below");
  std::vector<std::string> labels;
  for (const LabelRecord& label : record.labels) {
    if (label.target_tokens > 0)
      labels.push_back(fmt::format("  {} {:.3f}", label.name, label.loss));
  }
  log_items("  loss by label:", labels);
  log_info("  {} sequences, {} target tokens, dropped {:.2f} %, {:.1f} s", record.sequences,
           record.target_tokens, 100 * record.dropped_share, record.seconds);
  if (record.step == options_.total_steps) say_what_experts_took(record);
}

void ConsoleSink::profile(const ProfileRecord& record) {
  for (const std::string& line : profile_table(record)) log_info(line);
}

}  // namespace switchyard
