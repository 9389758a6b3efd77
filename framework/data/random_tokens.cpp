#include "data/random_tokens.h"

#include "base/check.h"
#include "base/random.h"

namespace switchyard {

RandomTokens::RandomTokens(const Options& options)
    : options_(options), vocabulary_{.size = options.vocabulary} {
  SWITCHYARD_CHECK(options.vocabulary >= 1, "a vocabulary of ", options.vocabulary);
  SWITCHYARD_CHECK(!options.causal || options.inputs_width == options.targets_width,
                   options.inputs_width, " and ", options.targets_width, " tokens");
}

std::vector<int32_t> RandomTokens::draw(int64_t row, uint32_t side, int count) const {
  const RandomKey key{.seed = options_.seed, .purpose = Purpose::kSampleOrder};
  std::vector<int32_t> ids;
  ids.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    const float drawn =
        random_uniform(key, static_cast<uint32_t>(row), side, static_cast<uint32_t>(i));
    ids.push_back(static_cast<int32_t>(drawn * static_cast<float>(options_.vocabulary)));
  }
  return ids;
}

void RandomTokens::fill(std::span<const int64_t> global_indices, TokenBatch& batch) const {
  batch.reset(options_.inputs_width, options_.targets_width);
  for (const int64_t row : global_indices) {
    batch.add_row(vocabulary_.filler());
    if (options_.causal) {
      batch.add_text(draw(row, 0, options_.inputs_width + 1), options_.inputs_width, 1, 0);
    } else {
      batch.add_sample(draw(row, 0, options_.inputs_width), draw(row, 1, options_.targets_width),
                       0);
    }
  }
}

}  // namespace switchyard
