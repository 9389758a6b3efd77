#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/bfloat16.h"
#include "tensor/float16.h"

namespace switchyard {
namespace {

static_assert(BFloat16(1.0f).bits() == 0x3F80);
static_assert(static_cast<float>(BFloat16::of_bits(0xC049)) == -3.140625f);
static_assert(DTypeOf<BFloat16>::value == DType::kBFloat16);
static_assert(sizeof(BFloat16) == 2);

// From the definition: of the two neighbours the nearer one, of two equally near ones the even one.
uint16_t nearest(float number) {
  const auto below = static_cast<uint16_t>(std::bit_cast<uint32_t>(number) >> 16);  // towards zero
  const auto beyond = static_cast<uint16_t>(below + 1);
  const auto distance = [&](uint16_t bits) {
    // Beyond the largest number stands what the next one would be, not infinity.
    const double neighbour = (bits & 0x7FFF) == 0x7F80
                                 ? std::copysign(0x1p128, number)
                                 : static_cast<double>(BFloat16::of_bits(bits));
    return std::abs(neighbour - static_cast<double>(number));
  };
  if (distance(below) != distance(beyond))
    return distance(below) < distance(beyond) ? below : beyond;
  return below % 2 == 0 ? below : beyond;
}

TEST(BFloat16, EveryNumberSurvivesTheWayThroughFloat32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto number = BFloat16::of_bits(static_cast<uint16_t>(bits));
    const BFloat16 again(static_cast<float>(number));
    if (std::isnan(static_cast<float>(number))) {
      EXPECT_TRUE(std::isnan(static_cast<float>(again)));
    } else {
      EXPECT_EQ(again.bits(), bits);
    }
  }
}

TEST(BFloat16, RoundsToTheNearestTiesToEven) {
  for (uint32_t upper = 0; upper < 0x10000; upper += 3) {
    if ((upper & 0x7F80) == 0x7F80) continue;  // not finite
    for (const uint32_t lower : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const auto number = std::bit_cast<float>(upper << 16 | lower);
      ASSERT_EQ(BFloat16(number).bits(), nearest(number)) << number;
      ASSERT_EQ(BFloat16(static_cast<double>(number)).bits(), nearest(number)) << number;
    }
  }
}

TEST(BFloat16, KeepsWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(BFloat16(infinity)), infinity);
  EXPECT_EQ(static_cast<float>(BFloat16(-infinity)), -infinity);
  EXPECT_EQ(static_cast<float>(BFloat16(std::numeric_limits<float>::max())), infinity);
  // The upper half of this NaN alone would be infinity.
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(0x7F800001u)))));
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(0xFFFFFFFFu)))));
}

static_assert(Float16(1.0f).bits() == 0x3C00);
static_assert(static_cast<float>(Float16::of_bits(0xC248)) == -3.140625f);
static_assert(static_cast<float>(Float16::of_bits(1)) == 0x1p-24f);
static_assert(sizeof(Float16) == 2);

// The compiler's own half precision is the witness.
_Float16 as_half(uint16_t bits) {
  _Float16 number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}
uint16_t bits_of_half(float number) {
  const auto half = static_cast<_Float16>(number);
  uint16_t bits = 0;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

TEST(Float16, EveryNumberIsWidenedExactlyAndComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = Float16::of_bits(static_cast<uint16_t>(bits));
    const auto number = static_cast<float>(half);
    if (std::isnan(number)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(as_half(half.bits())))) << bits;
      EXPECT_EQ(std::bit_cast<uint32_t>(number) >> 13 & 0x3FF, bits & 0x3FF) << bits;
      EXPECT_TRUE(std::isnan(static_cast<float>(Float16(number))));
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(number),
                std::bit_cast<uint32_t>(static_cast<float>(as_half(half.bits()))))
          << bits;
      EXPECT_EQ(Float16(number).bits(), bits);
    }
  }
}

// Around every half precision number, halfway to the next and just beside that.
TEST(Float16, RoundsToTheNearestAndTiesToEven) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7FFF) >= 0x7C00) continue;
    const auto number = static_cast<float>(Float16::of_bits(static_cast<uint16_t>(bits)));
    const float next = (bits & 0x7FFF) == 0x7BFF
                           ? std::copysign(65536.0f, number)
                           : static_cast<float>(Float16::of_bits(static_cast<uint16_t>(bits + 1)));
    const float middle = (number + next) / 2;
    for (const float near : {middle, std::nextafter(middle, number), std::nextafter(middle, next),
                             std::nextafter(number, next)}) {
      ASSERT_EQ(Float16(near).bits(), bits_of_half(near)) << near;
    }
  }
  for (const float extreme :
       {1e-45f, -1e-38f, 3e38f, -3e38f, 0x1p-25f, -0.0f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(Float16(extreme).bits(), bits_of_half(extreme)) << extreme;
  }
}

}  // namespace
}  // namespace switchyard
