#include "cli/memory_plan.h"

#include "base/log.h"
#include "base/process_memory.h"

namespace switchyard {

static double mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

MemoryPlan::MemoryPlan() : base_(process_memory().resident) { return_large_blocks_to_system(); }

void MemoryPlan::make(const Config& config, const RunParts& parts, const RunData& data,
                      TrainStep& step, Evaluator& evaluator) {
  const int64_t heap_before = process_memory().heap;
  step.rehearse();
  evaluator.rehearse();
  const Workspace::Sizes training = step.workspace().capacities();
  const Workspace::Sizes evaluation = evaluator.workspace().capacities();
  const int64_t heap = process_memory().heap - heap_before;

  int64_t weights = 0, gradients = 0, states = 0;
  for (const Weight* weight : parts.weights) {
    const auto bytes = static_cast<int64_t>(weight->master().size_bytes());
    weights += bytes;
    gradients += weight->keeps_ordered_sums() ? 2 * bytes : bytes;
  }
  for (const OptimizerState& state : parts.optimizer->states()) {
    states += static_cast<int64_t>(state.value.size_bytes());
  }
  parts_ = {
      {"weights", weights},
      {"gradients", gradients},
      {"optimizer state", states},
      {"compute forms and threads' buffers", heap - training.total() - evaluation.total()},
      {"saved activations", training.saved},
      {"decisions", training.decisions},
      {"scratch, exchange buffers among it", training.scratch},
      {"evaluation", evaluation.total()},
      // Ranks share out what they write.
      {"checkpoint copy",
       config.checkpoint.async ? (weights + states) / parts.groups.replica->size() : 0},
      {"data (token files, mapped)", data.mapped_bytes()},
  };
}

int64_t MemoryPlan::total_bytes() const {
  int64_t total = base_;
  for (const auto& [what, bytes] : parts_) total += bytes;
  return total;
}

void MemoryPlan::announce() const {
  log_info("memory planned, MiB: {:.1f}, of which {:.1f} the process itself with its libraries",
           mebibytes(total_bytes()), mebibytes(base_));
  for (const auto& [what, bytes] : parts_) {
    if (bytes > 0) log_info("  {:10.1f}  {}", mebibytes(bytes), what);
  }
}

void MemoryPlan::compare() const {
  const auto peak = process_memory().peak_resident;
  log_info("memory used, MiB: {:.1f} at its peak, {:.1f} % of the {:.1f} planned", mebibytes(peak),
           100.0 * static_cast<double>(peak) / static_cast<double>(total_bytes()),
           mebibytes(total_bytes()));
}

}  // namespace switchyard
