// T5's span corruption: some spans of a text are cut out of the encoder's input, each replaced by a
// sentinel, and the decoder has to write them. Knows ids, no tokenizer and no files.
// Source: t5/data/preprocessors.py (random_spans_helper, random_spans_noise_mask,
// noise_span_to_unique_sentinel), as docs/semantics.md restates it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

inline constexpr int kSentinels = 100;
inline constexpr int kMaxInputsLength = 1 << 20;  // tokens; keeps the arithmetic inside int
inline constexpr int32_t kPadId = 0;
inline constexpr int32_t kEosId = 1;
inline constexpr int32_t kUnknownId = 2;

struct SpanCorruptionOptions {
  double noise_density = 0.15;    // share of tokens cut out, in (0, 0.9]
  double mean_span_length = 3.0;  // tokens, in [1, 1000]
};

// Lengths of one sample, in tokens; inputs and targets with their sentinels and EOS.
struct SpanLengths {
  int tokens = 0;   // of the text
  int inputs = 0;   // of the encoder
  int targets = 0;  // of the decoder
  bool operator==(const SpanLengths&) const = default;
};

// random_spans_helper: the longest text whose corrupted input fills at most inputs_length (>= 3).
// Rounds half to even in float64. 512 -> {568, 512, 114}.
SpanLengths span_lengths(int inputs_length, const SpanCorruptionOptions& options = {});

// What corrupt_spans makes of `tokens` (>= 1) ids: the noise mask counts in float32, so for some
// lengths one token more or less than span_lengths' arithmetic is noise.
SpanLengths corrupted_lengths(int tokens, const SpanCorruptionOptions& options = {});

// The widths that hold every text of 1 .. max_tokens ids: where batches take their shape from.
SpanLengths widest_corrupted_lengths(int max_tokens, const SpanCorruptionOptions& options = {});

// Which number a sample's randomness has: nothing else goes into it.
struct SampleKey {
  uint64_t seed = 0;
  uint32_t epoch = 0;
  int64_t index = 0;  // global sample index, [0, 2^48)
};

// random_spans_noise_mask: one byte a token, 1 = noise. Starts with non-noise and, for two tokens
// or more, ends with noise. Every division into spans is equally likely. `tokens` >= 1.
std::vector<uint8_t> noise_mask(int tokens, const SpanCorruptionOptions& options,
                                const SampleKey& key);

struct CorruptedText {
  std::vector<int32_t> inputs, targets;
};

// inputs: the text with the k-th noise span as sentinel first_sentinel - k, then EOS; targets: each
// sentinel followed by the span it stands for, then EOS, no closing sentinel.
//   ids             at least one
//   first_sentinel  piece count + kSentinels - 1
// A text of more than kSentinels spans is a broken precondition: inputs_length is checked for it
// where the configuration is read, by check_sentinels().
CorruptedText corrupt_spans(std::span<const int32_t> ids, int32_t first_sentinel,
                            const SpanCorruptionOptions& options, const SampleKey& key);

// Throws ConfigError when texts for inputs_length hold more spans than there are sentinels, or an
// option is out of range.
void check_sentinels(int inputs_length, const SpanCorruptionOptions& options = {});

}  // namespace switchyard
