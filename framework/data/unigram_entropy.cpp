#include "data/unigram_entropy.h"

#include <cmath>

namespace switchyard {

UnigramEntropy unigram_entropy(const TokenSource& source) {
  const Vocabulary& vocabulary = source.vocabulary();
  UnigramEntropy result;
  std::vector<std::vector<int64_t>> counts;  // by label, then piece
  for (const std::string& name : source.label_names()) {
    result.labels.push_back({.name = name});
    counts.emplace_back(vocabulary.size, 0);
  }
  TokenBatch batch;
  for (int64_t index = 0; index < source.epoch_size(); ++index) {
    source.fill({&index, 1}, batch);
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets_segment[i] == 0) continue;
      const int32_t id = batch.targets[i];
      const int l = batch.label_of(0, batch.targets_segment[i]);
      ++result.labels[l].target_tokens;
      if (id == vocabulary.eos || vocabulary.is_sentinel(id)) {
        ++result.labels[l].free_tokens;
      } else {
        ++counts[l][id];
      }
    }
  }
  double total_nats = 0.0;
  for (size_t l = 0; l < counts.size(); ++l) {
    UnigramEntropy::Label& label = result.labels[l];
    const double paid = static_cast<double>(label.target_tokens - label.free_tokens);
    double nats = 0.0;
    for (const int64_t count : counts[l]) {
      if (count > 0)
        nats -= static_cast<double>(count) * std::log(static_cast<double>(count) / paid);
    }
    if (label.target_tokens > 0)
      label.nats_per_token = nats / static_cast<double>(label.target_tokens);
    result.target_tokens += label.target_tokens;
    total_nats += nats;
  }
  if (result.target_tokens > 0) {
    result.nats_per_token = total_nats / static_cast<double>(result.target_tokens);
  }
  return result;
}

}  // namespace switchyard
