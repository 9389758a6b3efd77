// The batches of one split of a dataset under a task: which examples are row number i, in every
// epoch. Rows hold one sample each or, packed, several (packing.h).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/example_source.h"
#include "data/packing.h"
#include "data/sampler.h"
#include "data/token_source.h"

namespace switchyard {

// Evaluation always draws with this seed, whatever the run's own is: runs stay comparable.
inline constexpr uint64_t kEvaluationSeed = 0x5715C4A2D0000001;

class DatasetSource : public TokenSource {
 public:
  struct Options {
    int inputs_width = 0, targets_width = 0;
    bool packing = false;
    // Whether a sample's inputs and targets are one text for a decoder alone, of which only the
    // targets are predicted; a row is as wide as both.
    bool joined = false;
    uint64_t seed = 0;
  };

  // Training rows, endlessly. `dataset` must outlive the source.
  DatasetSource(const Dataset& dataset, std::unique_ptr<ExampleSource> examples,
                const Options& options);

  // Evaluation rows: the first `samples` examples of the split's own fixed order, all if it has
  // fewer, one in each row and corrupted the same way every time. The seed and packing of the
  // options have no say.
  static std::unique_ptr<DatasetSource> evaluation(const Dataset& dataset,
                                                   std::unique_ptr<ExampleSource> examples,
                                                   Options options, int64_t samples);

  bool causal() const override { return options_.joined; }
  int inputs_width() const override {
    return options_.inputs_width + (options_.joined ? options_.targets_width : 0);
  }
  int targets_width() const override {
    return options_.targets_width + (options_.joined ? options_.inputs_width : 0);
  }
  const Vocabulary& vocabulary() const override { return dataset_->vocabulary(); }
  const std::vector<std::string>& label_names() const override { return dataset_->labels(); }
  int64_t epoch_size() const override { return epoch_size_; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override;

  // The samples of a row; exactly one where nothing is packed.
  std::vector<Sample> row(int64_t global_index) const;

 private:
  // Calls visit(sample) for the same, one after the other.
  template <typename Visit>
  void each_sample(int64_t global_index, const Visit& visit) const;

  const Dataset* dataset_;
  std::unique_ptr<ExampleSource> examples_;
  Options options_;
  std::optional<Packing> packing_;
  Sampler sampler_;
  int64_t epoch_size_ = 0;
  bool endless_ = true;
};

}  // namespace switchyard
