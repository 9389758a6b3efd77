// Routers other than switch in the MoE layer of a test, and what their formulas are made of, in
// plain float64 loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/reference/reference_kernels.h"
#include "moe/expert_choice_router.h"
#include "moe/gshard_router.h"
#include "moe/hash_router.h"
#include "moe/hierarchical_router.h"
#include "moe/moe_case.h"
#include "moe/noisy_top_k_router.h"
#include "moe/sinkhorn_router.h"
#include "moe/soft_router.h"

namespace switchyard::test {

// A case with this router, on a batch with padding in three routing groups; dropless.
template <typename Made, typename MadeOptions>
MoeCase router_case(const std::string& name, const MadeOptions& options, int64_t experts = 6) {
  MoeCase moe_case{.name = name,
                   .batch = padded_batch(2),
                   .experts = experts,
                   .activation = Activation::kGelu,
                   .capacity = {.overflow = CapacityRule::Overflow::kDropless},
                   .losses = {}};
  moe_case.batch.ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9,
                        3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 49};
  moe_case.router = [options](const RouterPlace& place) {
    return std::make_unique<Made>(options, place);
  };
  return moe_case;
}

inline NoisyTopKRouterOptions noisy_top_k_options(int64_t top_k) {
  NoisyTopKRouterOptions options;
  options.top_k = top_k;
  return options;
}
inline ExpertChoiceRouterOptions expert_choice_options(int64_t top_k) {
  ExpertChoiceRouterOptions options;
  options.top_k = top_k;
  return options;
}
inline SinkhornRouterOptions sinkhorn_options(int64_t top_k, int64_t iterations) {
  SinkhornRouterOptions options;
  options.top_k = top_k;
  options.iterations = iterations;
  return options;
}
inline HierarchicalRouterOptions hierarchical_options(int64_t groups, int64_t top, int64_t top_k,
                                                      bool normalize) {
  HierarchicalRouterOptions options;
  options.groups.count = groups;
  options.groups.top = top;
  options.top_k = top_k;
  options.normalize = normalize;
  return options;
}

// One forward pass of a case on one rank in float64, and its tensors on the host.
class RouterRun {
 public:
  explicit RouterRun(const MoeCase& moe_case)
      : moe_case_(moe_case), rank_(moe_case, make_reference_kernels()) {
    y_ = numbers(rank_->forward());
    rank_->layer().observe(rank_->ctx(), rank_->rows(), rank_->saved());
  }

  MoeRank& rank() { return *rank_; }
  MoeLayer::Saved& saved() { return rank_->saved(); }
  Routing& routing() { return *rank_->saved().routing; }
  const MoeObservation& seen() { return rank_->layer().observation(); }
  const Numbers& y() const { return y_; }
  Numbers numbers(TensorView x) { return numbers_of(rank_->ctx(), x); }
  std::vector<int32_t> integers(TensorView x) { return read_back_as<int32_t>(rank_->ctx(), x); }

  size_t tokens() const { return static_cast<size_t>(moe_case_.batch.tokens()); }
  size_t experts() const { return static_cast<size_t>(moe_case_.experts); }
  bool real(size_t t) const { return moe_case_.batch.real[t] != 0; }
  // Real tokens of each group.
  std::vector<std::vector<size_t>> groups() const;
  // x times the i-th weight's transpose, [T, outputs].
  Numbers gate(size_t i);
  // What noise of token t and column e is drawn with.
  RandomKey noise_key();

 private:
  MoeCase moe_case_;
  MoeOnOneRank rank_;
  Numbers y_;
};

inline std::vector<std::vector<size_t>> RouterRun::groups() const {
  const GlobalBatch& batch = moe_case_.batch;
  std::vector<std::vector<size_t>> groups;
  for (int64_t g = 0; g < batch.groups(); ++g) {
    groups.emplace_back();
    for (int64_t t = batch.first_sequence(g) * batch.length;
         t < batch.first_sequence(g + 1) * batch.length; ++t) {
      if (real(static_cast<size_t>(t))) groups.back().push_back(static_cast<size_t>(t));
    }
  }
  return groups;
}

inline Numbers RouterRun::gate(size_t i) {
  const Numbers weight = numbers(rank_->layer().weights()[i]->master());
  const Numbers x = numbers(rank_->x());
  const auto width = static_cast<size_t>(moe_case_.d_model);
  Numbers logits;
  for (size_t t = 0; t < tokens(); ++t) {
    for (size_t row = 0; row < weight.size() / width; ++row) {
      logits.push_back(
          std::inner_product(&x[t * width], &x[t * width] + width, &weight[row * width], 0.0));
    }
  }
  return logits;
}

inline RandomKey RouterRun::noise_key() {
  return {.seed = rank_->ctx().seed,
          .step = rank_->ctx().step,
          .layer = layer_id(StackKind::kEncoder, 1),
          .purpose = Purpose::kRouterNoise};
}

// Row t of a matrix of so many columns.
inline Numbers row_of(const Numbers& matrix, size_t columns, size_t t) {
  const auto first = matrix.begin() + static_cast<std::ptrdiff_t>(t * columns);
  return {first, first + static_cast<std::ptrdiff_t>(columns)};
}

inline Numbers softmax_of(Numbers row) {
  double sum = 0;
  for (const double logit : row) sum += std::exp(logit);
  for (double& number : row) number = std::exp(number) / sum;
  return row;
}

// Places of the k largest.
inline std::vector<int32_t> best_of(const Numbers& row, size_t k) {
  std::vector<int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t i, int32_t j) {
    return row[static_cast<size_t>(i)] > row[static_cast<size_t>(j)];
  });
  order.resize(k);
  return order;
}

// Population variance over squared mean.
inline double cv_squared_of(const Numbers& values) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double variance = 0;
  for (const double value : values) variance += (value - mean) * (value - mean) / count;
  return mean == 0 ? 0 : variance / (mean * mean);
}

}  // namespace switchyard::test
