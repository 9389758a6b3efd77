// Chooses the next token from its logits: the best one, or a draw from the likeliest.
#pragma once

#include <cstdint>
#include <span>

#include "data/vocabulary.h"

namespace switchyard {

struct SamplingOptions {
  double temperature = 0.0;  // logits are divided by it; 0: always the best token
  int64_t top_k = 0;         // > 0: only the k best
  double top_p = 1.0;        // only the best that together have this probability
  uint64_t seed = 0;
};

class TokenSampler {
 public:
  // Padding and ids beyond the vocabulary, which only fill the model's table up, are never chosen.
  TokenSampler(const SamplingOptions& options, const Vocabulary& vocabulary);

  // A draw is keyed by (seed, prompt, position): whatever else is generated beside it has no say.
  // Of equal logits the lower id comes first.
  //   logits    [V]
  //   prompt    its number among all prompts
  //   position  of the token in its answer, from 0
  int32_t operator()(std::span<const double> logits, int64_t prompt, int64_t position) const;

 private:
  bool allowed(int32_t id) const { return id < vocabulary_.size && id != vocabulary_.pad; }
  int32_t best(std::span<const double> logits) const;

  SamplingOptions options_;
  Vocabulary vocabulary_;
};

}  // namespace switchyard
