// Philox4x32-10 (Salmon et al. 2011): random numbers as a pure function of a key, the same on host
// and device. Nothing here knows a rank or a layout: a token's numbers are keyed by its global
// index.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/host_device.h"

namespace switchyard {

// What a number is for, so that no two uses share one. Values are part of the checkpoint contract
// (a resumed run must draw the same numbers): append, never renumber.
enum class Purpose : uint8_t {
  kInit = 0,
  kJitter = 1,
  kEmbeddingDropout = 2,
  kAttentionDropout = 3,
  kAttentionOutputDropout = 4,
  kFfnInnerDropout = 5,
  kFfnOutputDropout = 6,
  kFinalDropout = 7,
  kCrossAttentionDropout = 8,
  kCrossAttentionOutputDropout = 9,
  kExpertDropout = 10,
  kRouterNoise = 11,
  kDropPriority = 12,
  kSampleOrder = 13,
  kSpanCorruption = 14,
  kGeneration = 15,
};

// Everything of the key that is fixed for one call of an operation.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t step = 0;   // optimizer step; 0 for what doesn't change with it
  uint16_t layer = 0;  // unique in the model, see docs/semantics.md "Random numbers"
  Purpose purpose = Purpose::kInit;
};

struct PhiloxBits {
  uint32_t word[4];
};

SWITCHYARD_HOST_DEVICE inline PhiloxBits philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                                                uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The four words of elements 4*block .. 4*block+3 of (token, choice) under `key`.
//   token   global token index in the batch (or parameter element block for kInit), < 2^32
//   choice  which of the K choices, < 256; for attention weights: the head
SWITCHYARD_HOST_DEVICE inline PhiloxBits random_block(const RandomKey& key, uint32_t token,
                                                      uint32_t choice, uint32_t block) {
  const uint32_t what =
      (uint32_t{key.layer} << 16) | ((choice & 0xFFu) << 8) | static_cast<uint32_t>(key.purpose);
  return philox(block, token, what, key.step, key.seed);
}

SWITCHYARD_HOST_DEVICE inline uint32_t random_word(const RandomKey& key, uint32_t token,
                                                   uint32_t choice, uint32_t element) {
  return random_block(key, token, choice, element / 4).word[element % 4];
}

// How a row of activations names its numbers: the global token index, and above it which of the
// token's K choices the row is (0 where a token is one row).
SWITCHYARD_HOST_DEVICE inline int64_t random_row(int64_t token, int64_t choice) {
  return choice << 32 | token;
}
SWITCHYARD_HOST_DEVICE inline uint32_t token_of(int64_t random_row) {
  return static_cast<uint32_t>(random_row);
}
SWITCHYARD_HOST_DEVICE inline uint32_t choice_of(int64_t random_row) {
  return static_cast<uint32_t>(random_row >> 32);
}

// Uniform in [0, 1), 24 bits: the same value in float32 and float64.
SWITCHYARD_HOST_DEVICE inline float uniform_from_word(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

SWITCHYARD_HOST_DEVICE inline float random_uniform(const RandomKey& key, uint32_t token,
                                                   uint32_t choice, uint32_t element) {
  return uniform_from_word(random_word(key, token, choice, element));
}

// Standard normal by Box-Muller from words 2i and 2i+1; element 2i is the cosine branch.
// In float64 inside, rounded once: equal on every host.
inline double random_normal(const RandomKey& key, uint32_t token, uint32_t choice,
                            uint32_t element) {
  const PhiloxBits bits = random_block(key, token, choice, element / 4);
  const uint32_t pair = (element % 4) / 2 * 2;
  const double u = (static_cast<double>(bits.word[pair]) + 1.0) * 0x1p-32;  // (0, 1]
  const double angle = 6.283185307179586476925 * static_cast<double>(bits.word[pair + 1]) * 0x1p-32;
  const double radius = std::sqrt(-2.0 * std::log(u));
  return element % 2 == 0 ? radius * std::cos(angle) : radius * std::sin(angle);
}

}  // namespace switchyard
