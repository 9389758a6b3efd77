// `train:`, `checkpoint:`, `parallel:` and `run:` the loop, what it leaves behind, its layout over
// ranks, and where its results go.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

class Fields;

struct TrainConfig {
  enum class Precision { kFloat32, kBFloat16, kFloat64 };
  enum class OnNonfinite { kStop, kSkip };
  enum class Recompute { kNone, kBlocks };
  enum class Reduction { kFast, kOrdered };

  int64_t steps = 1000;
  int64_t batch_sequences = 64;  // of the global batch
  int64_t micro_batches = 1;
  Recompute recompute = Recompute::kNone;
  Precision precision = Precision::kFloat32;
  Reduction reduction = Reduction::kFast;
  double label_smoothing = 0.0;
  double output_z_loss = 0.0;
  std::optional<double> clip_norm = 1.0;        // empty: no clipping
  std::optional<int64_t> evaluate_every = 100;  // empty: only at the end
  int64_t evaluation_sequences = 256;
  int64_t log_every = 10;
  OnNonfinite on_nonfinite = OnNonfinite::kStop;

  void describe(Fields& f);
};

struct CheckpointConfig {
  std::optional<int64_t> every;  // empty: only at the end
  int64_t keep = 2;
  std::optional<int64_t> keep_every;  // empty: none is spared
  bool async = false;
  bool fallback = false;
  std::vector<std::string> partial;  // patterns of tensor names

  void describe(Fields& f);
};

struct ParallelConfig {
  std::optional<int64_t> expert;          // ranks of an expert group; empty: all of the job
  int64_t expert_tensor = 1;              // of these, ranks that hold slices of the same experts
  std::optional<int64_t> ranks_per_node;  // empty: ranks of one host
  std::optional<int64_t>
      threads;  // per rank; empty: the machine's cores shared out among its ranks

  void describe(Fields& f);
};

struct RunConfig {
  std::string dir = "runs";
  bool tensorboard = true;

  void describe(Fields& f);
};

}  // namespace switchyard
