#include "config/span_lengths.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace switchyard {

// Of random_spans_helper: Python's round() on doubles, which is nearbyint in the default mode.
static SpanLengths planned_lengths(int tokens, const SpanCorruptionOptions& options) {
  const int noise = static_cast<int>(std::nearbyint(tokens * options.noise_density));
  const int spans = static_cast<int>(std::nearbyint(noise / options.mean_span_length));
  return {tokens, tokens - noise + spans + 1, noise + spans + 1};
}

NoiseCounts noise_counts(int tokens, const SpanCorruptionOptions& options) {
  const float density = static_cast<float>(options.noise_density);
  const float mean = static_cast<float>(options.mean_span_length);
  const int rounded = static_cast<int>(std::nearbyint(static_cast<float>(tokens) * density));
  const int noise = std::clamp(rounded, 1, tokens - 1);
  const int wanted = static_cast<int>(std::nearbyint(static_cast<float>(noise) / mean));
  // The upper bound is ours: T5's code breaks at densities where it binds, never at 0.15 and 3.
  return {noise, std::clamp(wanted, 1, std::min(noise, tokens - noise))};
}

SpanLengths span_lengths(int inputs_length, const SpanCorruptionOptions& options) {
  SWITCHYARD_CHECK(inputs_length >= 3, "inputs_length ", inputs_length);
  int tokens = inputs_length - 1;
  while (planned_lengths(tokens + 1, options).inputs <= inputs_length) ++tokens;
  return planned_lengths(tokens, options);
}

SpanLengths corrupted_lengths(int tokens, const SpanCorruptionOptions& options) {
  SWITCHYARD_CHECK(tokens >= 1, tokens, " tokens");
  if (tokens == 1) return {1, 2, 2};  // the mask of two, cut to its non-noise token
  const auto [noise, spans] = noise_counts(tokens, options);
  return {tokens, tokens - noise + spans + 1, noise + spans + 1};
}

SpanLengths widest_corrupted_lengths(int max_tokens, const SpanCorruptionOptions& options) {
  SpanLengths widest{max_tokens, 0, 0};
  for (int tokens = 1; tokens <= max_tokens; ++tokens) {
    const SpanLengths lengths = corrupted_lengths(tokens, options);
    widest.inputs = std::max(widest.inputs, lengths.inputs);
    widest.targets = std::max(widest.targets, lengths.targets);
  }
  return widest;
}

}  // namespace switchyard
