// IEEE half precision on the host, for files that hold it: nothing computes with it. Numbers are
// widened exactly, and rounded to the nearest, ties to even, when they are stored.
#pragma once

#include <bit>
#include <cstdint>

namespace switchyard {

class Float16 {
 public:
  Float16() = default;
  // Beyond 65504 it becomes infinite, below 2^-25 zero.
  constexpr explicit Float16(float number) : bits_(rounded(std::bit_cast<uint32_t>(number))) {}
  static constexpr Float16 of_bits(uint16_t bits) {
    Float16 number{};
    number.bits_ = bits;
    return number;
  }

  // Exact, subnormal numbers and what a NaN carries included.
  constexpr operator float() const {  // NOLINT: usable wherever its number is
    const uint32_t sign = uint32_t{bits_ & 0x8000u} << 16;
    const uint32_t exponent = bits_ >> 10 & 0x1Fu, fraction = bits_ & 0x3FFu;
    if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | fraction << 13);
    if (exponent > 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  constexpr uint16_t bits() const { return bits_; }

 private:
  static constexpr uint16_t rounded(uint32_t bits) {
    const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    // A NaN stays one, though the bits that are kept may be zero.
    if (magnitude > 0x7F800000u) {
      return static_cast<uint16_t>(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    }
    if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);
    if (magnitude >= 0x38800000u) {
      const uint32_t nearest = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
      return static_cast<uint16_t>(sign | (nearest - 0x38000000u) >> 13);
    }
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return static_cast<uint16_t>(sign);
    // A multiple of 2^-24.
    const uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u, shift = 126 - exponent;
    uint32_t multiple = significand >> shift;
    const uint32_t rest = significand & ((1u << shift) - 1), half = 1u << (shift - 1);
    if (rest > half || (rest == half && multiple % 2 == 1)) ++multiple;
    return static_cast<uint16_t>(sign | multiple);
  }

  uint16_t bits_;
};

}  // namespace switchyard
