#include "data/permutation.h"

#include <bit>

#include "base/check.h"

namespace switchyard {

Permutation::Permutation(int64_t size, const RandomKey& key) : size_(size), key_(key) {
  SWITCHYARD_CHECK(size >= 1 && size <= (int64_t{1} << 62), "a permutation of ", size);
  const int bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1)));
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
}

// A balanced Feistel network over 2 * half_bits_ bits: bijective whatever its round function is.
uint64_t Permutation::feistel(uint64_t value) const {
  constexpr uint32_t kRounds = 6;
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const uint32_t word = random_word(key_, static_cast<uint32_t>(right), round, 0);
    const uint64_t mixed = (left ^ word) & mask;
    left = right;
    right = mixed;
  }
  return (left << half_bits_) | right;
}

int64_t Permutation::operator()(int64_t position) const {
  SWITCHYARD_CHECK(position >= 0 && position < size_, position, " of ", size_);
  // The network's domain is less than four times the size: values outside walk on along their
  // cycle until they come back inside, which keeps the whole bijective.
  uint64_t value = static_cast<uint64_t>(position);
  do {
    value = feistel(value);
  } while (value >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(value);
}

}  // namespace switchyard
