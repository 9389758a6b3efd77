#include "data/dataset_source.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard {

static std::optional<Packing> packing_of(const ExampleSource& examples,
                                         const DatasetSource::Options& options) {
  if (!options.packing) return std::nullopt;
  return Packing(examples, options.inputs_width, options.targets_width, options.seed);
}

DatasetSource::DatasetSource(const Dataset& dataset, std::unique_ptr<ExampleSource> examples,
                             const Options& options)
    : dataset_(&dataset),
      examples_(std::move(examples)),
      options_(options),
      packing_(packing_of(*examples_, options)),
      sampler_(packing_ ? packing_->rows() : examples_->size(), options.seed),
      epoch_size_(sampler_.epoch_size()) {}

std::unique_ptr<DatasetSource> DatasetSource::evaluation(const Dataset& dataset,
                                                         std::unique_ptr<ExampleSource> examples,
                                                         Options options, int64_t samples) {
  SWITCHYARD_CHECK(samples >= 1, samples, " samples");
  options.seed = kEvaluationSeed;
  options.packing = false;
  auto source = std::make_unique<DatasetSource>(dataset, std::move(examples), options);
  source->epoch_size_ = std::min(source->epoch_size_, samples);
  source->endless_ = false;
  return source;
}

template <typename Visit>
void DatasetSource::each_sample(int64_t global_index, const Visit& visit) const {
  SWITCHYARD_CHECK(endless_ || global_index < epoch_size_, "evaluation sample ", global_index,
                   " of ", epoch_size_);
  const auto [epoch, place] = sampler_(global_index);
  if (!packing_) {
    const int64_t number = global_index % sampler_.epoch_size();
    return visit(examples_->sample(place, {options_.seed, epoch, number}));
  }
  for (int64_t position = packing_->begin(place); position < packing_->end(place); ++position) {
    visit(examples_->sample(packing_->example(position), {options_.seed, epoch, position}));
  }
}

std::vector<Sample> DatasetSource::row(int64_t global_index) const {
  std::vector<Sample> samples;
  each_sample(global_index, [&](Sample sample) { samples.push_back(std::move(sample)); });
  return samples;
}

void DatasetSource::fill(std::span<const int64_t> global_indices, TokenBatch& batch) const {
  batch.reset(inputs_width(), targets_width(), options_.packing);
  for (const int64_t index : global_indices) {
    batch.add_row(vocabulary().filler());
    each_sample(index, [&](const Sample& sample) {
      if (options_.joined) {
        ReusedVector<int32_t> text;
        text.reserve(static_cast<size_t>(inputs_width()) + 1);
        text = sample.inputs;
        text.insert(text.end(), sample.targets.begin(), sample.targets.end());
        batch.add_text(text, std::ssize(text), std::ssize(sample.inputs), sample.label);
      } else {
        batch.add_sample(sample.inputs, sample.targets, sample.label);
      }
    });
  }
}

}  // namespace switchyard
