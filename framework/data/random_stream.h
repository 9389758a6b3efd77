// The Philox words of one key in order, for draws whose number isn't known beforehand. A local
// cursor over a pure function, made anew for every sample: no state outlives the sample.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "base/random.h"

namespace switchyard {

class RandomStream {
 public:
  // The words 0, 1, 2, ... of (key, token, choice) as random_word() numbers them.
  RandomStream(const RandomKey& key, uint32_t token, uint32_t choice = 0)
      : key_(key), token_(token), choice_(choice) {}

  uint32_t next() {
    if (element_ % 4 == 0) bits_ = random_block(key_, token_, choice_, element_ / 4);
    return bits_.word[element_++ % 4];
  }

  // Uniform in [0, bound), without bias: words that would favour small values are drawn again.
  // Source: Lemire, "Fast Random Integer Generation in an Interval", 2019.
  uint32_t below(uint32_t bound) {
    SWITCHYARD_CHECK(bound > 0, "an empty range");
    uint64_t product = uint64_t{next()} * bound;
    const uint32_t threshold = (0u - bound) % bound;
    while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next()} * bound;
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  RandomKey key_;
  uint32_t token_, choice_;
  uint32_t element_ = 0;
  PhiloxBits bits_{};
};

}  // namespace switchyard
