#include "data/mixture_source.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "data/dataset_source.h"
#include "data/permutation.h"

namespace switchyard {

std::vector<int64_t> shares_of(int64_t total, const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> shares;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double exact = static_cast<double>(total) * weight / sum;
    shares.push_back(static_cast<int64_t>(std::floor(exact)));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater{}, [&](size_t i) { return remainders[i]; });
  const int64_t left = total - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (int64_t i = 0; i < left; ++i) ++shares[order[static_cast<size_t>(i) % order.size()]];
  return shares;
}

static std::vector<double> weights_of(const std::vector<MixtureSource::Part>& parts) {
  std::vector<double> weights;
  for (const MixtureSource::Part& part : parts) weights.push_back(part.weight);
  return weights;
}

MixtureSource::MixtureSource(std::vector<Part> parts, uint64_t seed)
    : MixtureSource(std::move(parts), {}, seed) {
  for (const Part& part : parts_) epoch_size_ += part.source->epoch_size();
}

MixtureSource::MixtureSource(std::vector<Part> parts, const std::vector<int64_t>& rows_of_block,
                             uint64_t seed)
    : parts_(std::move(parts)), first_{0}, seed_(seed) {
  SWITCHYARD_CHECK(!parts_.empty(), "a mixture of nothing");
  const std::vector<int64_t> rows =
      rows_of_block.empty() ? shares_of(kBlockRows, weights_of(parts_)) : rows_of_block;
  for (size_t p = 0; p < parts_.size(); ++p) {
    const TokenSource& source = *parts_[p].source;
    SWITCHYARD_CHECK(source.causal() == causal() && source.inputs_width() == inputs_width() &&
                         source.targets_width() == targets_width() &&
                         source.vocabulary() == vocabulary(),
                     "part ", p, " of a mixture is of another kind");
    first_.push_back(first_.back() + rows[p]);
    label_map_.emplace_back();
    for (const std::string& name : source.label_names()) {
      const auto known = std::ranges::find(label_names_, name) - label_names_.begin();
      if (known == std::ssize(label_names_)) label_names_.push_back(name);
      label_map_.back().push_back(static_cast<int>(known));
    }
  }
}

std::unique_ptr<MixtureSource> MixtureSource::evaluation(std::vector<Part> parts, int64_t rows) {
  std::vector<int64_t> shares = shares_of(rows, weights_of(parts));
  for (size_t p = 0; p < parts.size(); ++p) {
    shares[p] = std::min(shares[p], parts[p].source->epoch_size());
  }
  std::unique_ptr<MixtureSource> source(
      new MixtureSource(std::move(parts), shares, kEvaluationSeed));
  source->epoch_size_ = source->first_.back();
  source->endless_ = false;
  return source;
}

MixtureSource::Place MixtureSource::place(int64_t global_index) const {
  SWITCHYARD_CHECK(global_index >= 0 && (endless_ || global_index < epoch_size_), "row ",
                   global_index, " of ", epoch_size_);
  const int64_t rows = first_.back(), block = global_index / rows;
  // Layer 2 sets the order apart from the parts' own, which have layer 0.
  const RandomKey key{.seed = seed_,
                      .step = static_cast<uint32_t>(block),
                      .layer = 2,
                      .purpose = Purpose::kSampleOrder};
  const int64_t slot = Permutation(rows, key)(global_index % rows);
  const auto part =
      static_cast<size_t>(std::ranges::upper_bound(first_, slot) - first_.begin() - 1);
  return {part, block * (first_[part + 1] - first_[part]) + slot - first_[part]};
}

void MixtureSource::fill(std::span<const int64_t> global_indices, TokenBatch& batch) const {
  batch.reset(inputs_width(), targets_width());
  TokenBatch row;
  for (const int64_t index : global_indices) {
    const Place here = place(index);
    parts_[here.part].source->fill({&here.index, 1}, row);
    for (int& label : row.labels) label = label_map_[here.part][static_cast<size_t>(label)];
    batch.append(row);
  }
}

}  // namespace switchyard
