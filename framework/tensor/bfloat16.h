// bfloat16 on the host: the upper half of a float32. Numbers are widened to compute with and
// rounded to the nearest, ties to even, when they are stored; there is no arithmetic on the type
// itself.
#pragma once

#include <bit>

#include "tensor/dtype.h"

namespace switchyard {

class BFloat16 {
 public:
  BFloat16() = default;
  constexpr explicit BFloat16(float number) : bits_(rounded(std::bit_cast<uint32_t>(number))) {}
  // Through float32, as every backend's conversion from float64.
  constexpr explicit BFloat16(double number) : BFloat16(static_cast<float>(number)) {}
  static constexpr BFloat16 of_bits(uint16_t bits) {
    BFloat16 number{};
    number.bits_ = bits;
    return number;
  }

  // Exact.
  constexpr operator float() const {  // NOLINT: usable wherever its number is
    return std::bit_cast<float>(uint32_t{bits_} << 16);
  }
  constexpr uint16_t bits() const { return bits_; }

 private:
  // A NaN stays one, though its upper half may be zero.
  static constexpr uint16_t rounded(uint32_t bits) {
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    if (is_nan) return static_cast<uint16_t>((bits >> 16) | 0x40u);
    return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
  }

  uint16_t bits_;
};

template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBFloat16;
};

}  // namespace switchyard
