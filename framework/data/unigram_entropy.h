// The bar a model's validation loss has to get below to have learnt more than which tokens are
// frequent in which language.
//
// Definition. Over the target tokens of evaluation samples 0 .. n-1, padding left out: sentinels
// and EOS are free, 0 nats each. Any other target token of piece i under label l takes -ln p(i | l)
// nats, where p(i | l) = count of i / count of all non-free tokens among the targets of label l of
// these very samples. A label's entropy is its nats over all its target tokens, free ones included;
// the mean is the nats of all labels over all target tokens. It is compared with a loss that is a
// mean over all target tokens; the probabilities being fitted to the set itself, no unigram model
// with known labels and free sentinels can do better.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/token_source.h"

namespace switchyard {

struct UnigramEntropy {
  struct Label {
    std::string name;
    int64_t target_tokens = 0;    // without padding
    int64_t free_tokens = 0;      // sentinels and EOS among them
    double nats_per_token = 0.0;  // 0 for a label without target tokens
  };
  std::vector<Label> labels;
  int64_t target_tokens = 0;
  double nats_per_token = 0.0;  // mean over all target tokens
};

// Reads rows 0 .. source.epoch_size() - 1.
UnigramEntropy unigram_entropy(const TokenSource& source);

}  // namespace switchyard
