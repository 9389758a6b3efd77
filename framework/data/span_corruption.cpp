#include "data/span_corruption.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/random.h"
#include "data/random_stream.h"

namespace switchyard {
namespace {

// Divides `total` into `parts` positive lengths, each division equally likely: parts - 1 of the
// total - 1 boundaries between items, taken one after the other (selection sampling).
ReusedVector<int> random_division(int total, int parts, RandomStream& random) {
  ReusedVector<int> lengths;
  lengths.reserve(parts);
  int wanted = parts - 1, begin = 0;
  for (int boundary = 1; boundary < total && wanted > 0; ++boundary) {
    if (static_cast<int>(random.below(total - boundary)) < wanted) {
      lengths.push_back(boundary - begin);
      begin = boundary;
      --wanted;
    }
  }
  lengths.push_back(total - begin);
  return lengths;
}

// Copies the ids outside `dropped` and one sentinel for each run of ids inside it, then EOS.
ReusedVector<int32_t> with_sentinels(std::span<const int32_t> ids,
                                     const ReusedVector<uint8_t>& mask, uint8_t dropped,
                                     const Vocabulary& vocabulary) {
  ReusedVector<int32_t> out;
  out.reserve(ids.size() + 1);
  int runs = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (mask[i] != dropped) {
      out.push_back(ids[i]);
    } else if (i == 0 || mask[i - 1] != dropped) {
      SWITCHYARD_CHECK(runs < vocabulary.sentinels, ids.size(), " ids need more than ",
                       vocabulary.sentinels, " sentinels");
      out.push_back(*vocabulary.first_sentinel - runs++);
    }
  }
  if (vocabulary.eos) out.push_back(*vocabulary.eos);
  return out;
}

}  // namespace

ReusedVector<uint8_t> noise_mask(int tokens, const SpanCorruptionOptions& options,
                                 const SampleKey& key) {
  SWITCHYARD_CHECK(tokens >= 1, tokens, " tokens");
  SWITCHYARD_CHECK(key.index >= 0 && key.index < (int64_t{1} << 48), "sample ", key.index);
  const int length = std::max(tokens, 2);
  const auto [noise, spans] = noise_counts(length, options);
  RandomStream random({.seed = key.seed,
                       .step = key.epoch,
                       .layer = static_cast<uint16_t>(key.index >> 32),
                       .purpose = Purpose::kSpanCorruption},
                      static_cast<uint32_t>(key.index));
  const ReusedVector<int> noise_spans = random_division(noise, spans, random);
  const ReusedVector<int> kept_spans = random_division(length - noise, spans, random);
  ReusedVector<uint8_t> mask;
  mask.reserve(length);
  for (int i = 0; i < spans; ++i) {
    mask.insert(mask.end(), kept_spans[i], 0);
    mask.insert(mask.end(), noise_spans[i], 1);
  }
  mask.resize(tokens);
  return mask;
}

CorruptedText corrupt_spans(std::span<const int32_t> ids, const Vocabulary& vocabulary,
                            const SpanCorruptionOptions& options, const SampleKey& key) {
  const ReusedVector<uint8_t> mask = noise_mask(static_cast<int>(ids.size()), options, key);
  return {with_sentinels(ids, mask, 1, vocabulary), with_sentinels(ids, mask, 0, vocabulary)};
}

void check_sentinels(int inputs_length, const SpanCorruptionOptions& options, int sentinels) {
  if (!(options.noise_density > 0 && options.noise_density <= 0.9)) {
    throw ConfigError(fmt::format("noise_density {} is outside (0, 0.9]", options.noise_density));
  }
  if (!(options.mean_span_length >= 1 && options.mean_span_length <= 1000)) {
    throw ConfigError(
        fmt::format("mean_span_length {} is outside [1, 1000]", options.mean_span_length));
  }
  if (inputs_length < 3 || inputs_length > kMaxInputsLength) {
    throw ConfigError(
        fmt::format("inputs_length {} is outside [3, {}]", inputs_length, kMaxInputsLength));
  }
  const int tokens = span_lengths(inputs_length, options).tokens;
  const int spans = noise_counts(tokens, options).spans;
  if (spans > sentinels) {
    throw ConfigError(fmt::format("inputs_length {} needs {} sentinels, there are {}",
                                  inputs_length, spans, sentinels),
                      "", "shorten inputs_length or lengthen mean_span_length");
  }
}

}  // namespace switchyard
