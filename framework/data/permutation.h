// A keyed pseudorandom permutation of [0, size): O(1) memory, any element without the others.
// Not for secrets.
#pragma once

#include <cstdint>

#include "base/random.h"

namespace switchyard {

class Permutation {
 public:
  //   size  1 .. 2^62
  //   key   another key gives another order
  Permutation(int64_t size, const RandomKey& key);

  int64_t size() const { return size_; }

  // The element at `position`, both in [0, size). Bijective.
  int64_t operator()(int64_t position) const;

 private:
  uint64_t feistel(uint64_t value) const;

  int64_t size_;
  RandomKey key_;
  int half_bits_;
};

}  // namespace switchyard
