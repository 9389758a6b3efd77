// T5's span corruption: some spans of a text are cut out of the encoder's input, each replaced by a
// sentinel, and the decoder has to write them. Knows ids, no tokenizer and no files.
// Source: t5/data/preprocessors.py (random_spans_helper, random_spans_noise_mask,
// noise_span_to_unique_sentinel), as docs/semantics.md restates it.
#pragma once

#include <cstdint>
#include <span>

#include "base/reused_memory.h"
#include "config/span_lengths.h"
#include "data/vocabulary.h"

namespace switchyard {

inline constexpr int kMaxInputsLength = 1 << 20;  // tokens; keeps the arithmetic inside int

// Which number a sample's randomness has: nothing else goes into it.
struct SampleKey {
  uint64_t seed = 0;
  uint32_t epoch = 0;
  int64_t index = 0;  // global sample index, [0, 2^48)
};

// random_spans_noise_mask: one byte a token, 1 = noise. Starts with non-noise and, for two tokens
// or more, ends with noise. Every division into spans is equally likely. `tokens` >= 1.
ReusedVector<uint8_t> noise_mask(int tokens, const SpanCorruptionOptions& options,
                                 const SampleKey& key);

struct CorruptedText {
  ReusedVector<int32_t> inputs, targets;
};

// inputs: the text with the k-th noise span as sentinel first_sentinel - k, then EOS; targets: each
// sentinel followed by the span it stands for, then EOS, no closing sentinel. A vocabulary without
// EOS closes neither.
//   ids         at least one
//   vocabulary  has sentinels
// A text of more spans than sentinels is a broken precondition: inputs_length is checked for it
// where the configuration is read, by check_sentinels().
CorruptedText corrupt_spans(std::span<const int32_t> ids, const Vocabulary& vocabulary,
                            const SpanCorruptionOptions& options, const SampleKey& key);

// Throws ConfigError when texts for inputs_length hold more spans than there are sentinels, or an
// option is out of range.
void check_sentinels(int inputs_length, const SpanCorruptionOptions& options = {},
                     int sentinels = kSentinels);

}  // namespace switchyard
