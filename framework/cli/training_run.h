// What `train` and `eval` share: the parts of a config's run on this rank, and what is said about
// them at the start.
#pragma once

#include "cli/verbs.h"
#include "registry/run_data.h"
#include "registry/run_parts.h"
#include "report/routing_trace.h"
#include "trainer/evaluator.h"
#include "trainer/run_checkpoints.h"

namespace switchyard {

struct RunDirectory {
  std::filesystem::path path;  // runs/<name>
  std::filesystem::path checkpoints() const { return path / "checkpoints"; }
  std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  std::filesystem::path tensorboard() const { return path / "tensorboard"; }
  std::filesystem::path trace() const { return path / "trace.json"; }
  std::filesystem::path routing() const { return path / kRoutingTraceFile; }
  std::filesystem::path log(int rank) const;                             // logs/rank-00003.log
  std::filesystem::path config() const { return path / "config.yaml"; }  // resolved
};
RunDirectory run_directory(const Config& config);

// The checkpoint that a user means by `path`: itself, or the latest one of a run's folder or of the
// `checkpoints` folder in it. An empty path stays empty. Throws CheckpointError if there is none,
// saying what there is instead.
std::filesystem::path checkpoint_at(const std::filesystem::path& path);
// Throws CheckpointError where a file stands in place of a folder.
void refuse_file(const std::filesystem::path& path);

// What the metrics file says of this process; the trainer adds the step.
StartRecord start_record(const Config& config, const RunParts& parts, int threads);

// A line on the model, one on the layout, one for each rank's experts; warns of ranks without work.
// Every rank calls it.
void announce(const Config& config, const RunParts& parts, const RunData& data, int threads);

struct EvaluationChoices {
  bool shuffle_inputs = false;
  bool trace_routing = false;
};
Evaluator make_evaluator(const Config& config, RunParts& parts, const RunData& data,
                         const EvaluationChoices& choices);

}  // namespace switchyard
