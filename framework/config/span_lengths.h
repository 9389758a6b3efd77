// How long the inputs and targets are that T5's span corruption makes: arithmetic on lengths, which
// both the config's rules and data/span_corruption.h need. It draws and moves nothing.
// Source: t5/data/preprocessors.py, random_spans_helper and random_spans_noise_mask.
#pragma once

namespace switchyard {

inline constexpr int kSentinels = 100;

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

struct NoiseCounts {
  int noise = 0;  // tokens cut out
  int spans = 0;  // that they form
};

// What random_spans_noise_mask cuts out of `tokens` (>= 2) ids; rounds half to even in float32.
NoiseCounts noise_counts(int tokens, const SpanCorruptionOptions& options);

// random_spans_helper: the longest text whose corrupted input fills at most inputs_length (>= 3).
// Rounds half to even in float64. 512 -> {568, 512, 114}.
SpanLengths span_lengths(int inputs_length, const SpanCorruptionOptions& options = {});

// What corruption makes of `tokens` (>= 1) ids: the noise mask counts in float32, so for some
// lengths one token more or less than span_lengths' arithmetic is noise.
SpanLengths corrupted_lengths(int tokens, const SpanCorruptionOptions& options = {});

// The widths that hold every text of 1 .. max_tokens ids: where batches take their shape from.
SpanLengths widest_corrupted_lengths(int max_tokens, const SpanCorruptionOptions& options = {});

}  // namespace switchyard
