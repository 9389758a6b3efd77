// A run as its folder tells it: metrics.jsonl (docs/reference/metrics.md) and config.yaml. What a
// report is made of; nothing here is drawn.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "report/routing_trace.h"

namespace switchyard {

// One MoE layer over all steps.
struct LayerLog {
  std::string name;
  // A value for each of RunLog::steps, NaN where the step didn't say.
  std::vector<float> dropped_share, router_entropy, dead_experts;
  std::vector<double> load;         // [spans, experts]: choices, summed over each span of steps
  std::vector<double> recent_load;  // [experts]: summed over the last tenth of the steps
};

struct RunLog {
  std::string name;         // of the run's folder
  std::string config_text;  // resolved; empty if the folder has none
  std::vector<StartRecord> starts;

  // Step number n is steps[i]; each list has a value for each of them, NaN where it didn't say.
  std::vector<int64_t> steps;  // ascending
  std::vector<double> loss, load_balance, router_z, importance, load_loss, learning_rate,
      gradient_norm, seconds, tokens, flops, dropped_share;
  std::vector<int64_t> skipped;  // steps whose update was left out
  std::vector<LayerLog> layers;
  std::vector<EvaluationRecord> evaluations;  // ascending; none with shuffled inputs
  std::optional<ProfileRecord> profile;       // of the last process that was profiled
  std::optional<RoutingTrace> routing;        // of the last evaluation, where the run keeps it
  int64_t unreadable_lines = 0;

  // Of the layer that has the most.
  int64_t experts() const;
  // Equal spans of steps that LayerLog::load has sums of: number, first step, one past the last.
  int64_t spans() const;
  int64_t span_begin(int64_t span) const;
  // Steps that the whole run is to have; the last step seen where no start says.
  int64_t planned_steps() const;
  bool finished() const { return !starts.empty() && last_step() >= planned_steps(); }
  int64_t last_step() const { return steps.empty() ? 0 : steps.back(); }
  int64_t times_resumed() const { return starts.empty() ? 0 : ssize_of(starts) - 1; }

 private:
  template <typename T>
  static int64_t ssize_of(const std::vector<T>& list) {
    return static_cast<int64_t>(list.size());
  }
};

// Reads a run's folder. A start, and a step that stands twice, make what came after them earlier in
// the file void. Lines that are no JSON (of a process killed while it wrote) are counted and left
// out. Keeps one line in memory at a time. Throws InputError if there is no metrics.jsonl or no
// step in it.
RunLog read_run_log(const std::filesystem::path& run_directory);

}  // namespace switchyard
