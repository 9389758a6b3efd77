#include "generation/token_sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/random.h"

namespace switchyard {

TokenSampler::TokenSampler(const SamplingOptions& options, const Vocabulary& vocabulary)
    : options_(options), vocabulary_(vocabulary) {
  SWITCHYARD_CHECK(
      options.temperature >= 0 && options.top_k >= 0 && options.top_p > 0 && options.top_p <= 1,
      options.temperature, " ", options.top_k, " ", options.top_p);
}

int32_t TokenSampler::best(std::span<const double> logits) const {
  int32_t best = -1;
  for (int32_t id = 0; id < std::ssize(logits); ++id) {
    if (!allowed(id)) continue;
    if (best < 0 || logits[static_cast<size_t>(id)] > logits[static_cast<size_t>(best)]) best = id;
  }
  SWITCHYARD_CHECK(best >= 0, "a vocabulary without a token");
  return best;
}

int32_t TokenSampler::operator()(std::span<const double> logits, int64_t prompt,
                                 int64_t position) const {
  if (options_.temperature == 0) return best(logits);
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < std::ssize(logits); ++id) {
    if (allowed(id)) ids.push_back(id);
  }
  std::ranges::stable_sort(ids, std::greater{},
                           [&](int32_t id) { return logits[static_cast<size_t>(id)]; });
  if (options_.top_k > 0 && options_.top_k < std::ssize(ids)) {
    ids.resize(static_cast<size_t>(options_.top_k));
  }
  std::vector<double> weights;
  double sum = 0;
  const double highest = logits[static_cast<size_t>(ids.front())];
  for (const int32_t id : ids) {
    weights.push_back(std::exp((logits[static_cast<size_t>(id)] - highest) / options_.temperature));
    sum += weights.back();
  }
  double kept = 0;
  size_t count = 0;
  while (count < ids.size() && (count == 0 || kept < options_.top_p * sum))
    kept += weights[count++];

  const RandomKey key{.seed = options_.seed,
                      .step = static_cast<uint32_t>(prompt),
                      .purpose = Purpose::kGeneration};
  double left = kept * random_uniform(key, static_cast<uint32_t>(position), 0, 0);
  for (size_t i = 0; i + 1 < count; ++i) {
    if (left < weights[i]) return ids[i];
    left -= weights[i];
  }
  return ids[count - 1];
}

}  // namespace switchyard
