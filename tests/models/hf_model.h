// Models and batches of transformers, from the golden files that it made (tests/golden/README.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/small_model.h"
#include "support/batch_rows.h"
#include "support/golden.h"

namespace switchyard::test {

// What a config.json of transformers says: evaluation without dropout and jitter, a routing group
// for each sequence, padding taking room.
ModelOptions read_hf_config(const std::string& file);

// hugging_face_name() of a tensor of switch_transformers.
std::string hf_name(const std::string& name);

// Sets every weight from its tensor; returns the tensors of the file that no weight took. Throws
// CheckpointError where a tensor is missing, and fails a check where shapes differ. For parts of a
// model and float64 runs; whole models: fill_weights().
std::vector<std::string> load_hf_weights(ExecContext& ctx, const std::vector<Weight*>& weights,
                                         const SafetensorsFile& file);

// Sequences of one length as a stack reads them.
struct Sequences {
  int64_t count = 0, length = 0;
  std::vector<int32_t> ids;
  std::vector<int32_t> mask = {};  // 0 for padding; empty: no mask at all
};
// Each sequence a routing group.
std::unique_ptr<BatchRows> batch_rows(const Sequences& sequences, Memory& memory);

// A batch as transformers reads it: the decoder has no mask.
struct HfBatch {
  Sequences encoder, decoder;
  std::vector<int32_t> labels;

  // Of switch_full/golden.safetensors.
  static HfBatch of(const GoldenTensors& golden);
  // The labels that carry loss.
  int64_t targets() const;
};

// A batch on a model's device.
class HfBatchOnDevice {
 public:
  HfBatchOnDevice(const HfBatch& batch, LayerContext& ctx);
  const ModelBatch& batch() const { return batch_; }

 private:
  std::unique_ptr<BatchRows> encoder_, decoder_;
  ModelBatch batch_;
};

// max|difference| / max|reference| must not exceed the tolerance; sizes must agree.
void expect_close(const Numbers& actual, const Numbers& reference, double tolerance,
                  const std::string& what);

}  // namespace switchyard::test
