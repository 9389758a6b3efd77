// The tile loops by themselves, over the processor's tiles and over their model: packing, ragged
// edges and sums against plain loops in float64, the model against sums worked out by hand, and the
// processor against the model.
#include "backends/cpu/tile_loops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backends/cpu/cpu_isa.h"
#include "base/random.h"
#include "support/modelled_tiles.h"
#include "tensor/bfloat16.h"

namespace switchyard::test {
namespace {

using cpu::kTileBlock, cpu::TileLoops;

std::vector<float> normal(int64_t count, uint64_t seed) {
  std::vector<float> numbers;
  for (int64_t i = 0; i < count; ++i) {
    numbers.push_back(
        static_cast<float>(random_normal({.seed = seed}, 0, 0, static_cast<uint32_t>(i))));
  }
  return numbers;
}

std::vector<uint16_t> rounded(const std::vector<float>& numbers) {
  std::vector<uint16_t> bits;
  for (const float number : numbers) bits.push_back(BFloat16(number).bits());
  return bits;
}

double number(uint16_t bits) { return static_cast<double>(float{BFloat16::of_bits(bits)}); }

std::vector<uint16_t> room(int64_t rows, int64_t depth) {
  const int64_t blocks = (rows + kTileBlock - 1) / kTileBlock;
  // Something that would show if it were taken for a number.
  return std::vector<uint16_t>(static_cast<size_t>(blocks * kTileBlock * cpu::tile_depth_of(depth)),
                               BFloat16(std::numeric_limits<float>::quiet_NaN()).bits());
}

struct Sizes {
  int64_t rows, depth, columns;
};
constexpr Sizes kSizes[] = {{1, 1, 1},   {16, 32, 32}, {32, 32, 32}, {17, 33, 31},
                            {31, 2, 17}, {33, 64, 16}, {70, 95, 32}, {96, 100, 5}};

constexpr int64_t kGuard = 7;  // columns beside c that must stay as they are

// c [rows, columns + kGuard] after left right was written to it or added.
std::vector<float> multiplied(const TileLoops& tiles, const Sizes& s,
                              const std::vector<uint16_t>& left, const std::vector<uint16_t>& right,
                              bool accumulate) {
  std::vector<float> c(static_cast<size_t>(s.rows * (s.columns + kGuard)), 0.5f);
  tiles.begin();
  tiles.product(left.data(), s.rows, right.data(), s.depth, c.data(), s.columns + kGuard, s.columns,
                accumulate);
  tiles.end();
  return c;
}

// a(i, k) and b(k, j) are numbers of the sides.
template <typename A, typename B>
void expect_product(const std::vector<float>& c, const Sizes& s, bool accumulate, const A& a,
                    const B& b) {
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t j = 0; j < s.columns + kGuard; ++j) {
      double expected = 0.5, scale = 0.5;
      if (j < s.columns) {
        expected = accumulate ? 0.5 : 0.0;
        for (int64_t k = 0; k < s.depth; ++k) {
          expected += a(i, k) * b(k, j);
          scale += std::abs(a(i, k) * b(k, j));
        }
      }
      ASSERT_NEAR(static_cast<double>(c[static_cast<size_t>(i * (s.columns + kGuard) + j)]),
                  expected, j < s.columns ? 1e-6 * scale : 0.0)
          << s.rows << " x " << s.depth << " x " << s.columns << " at " << i << ", " << j;
    }
  }
}

struct Tiles {
  const char* name;
  const TileLoops* loops;
  bool usable;
};

class TileLoopsTest : public testing::TestWithParam<Tiles> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << GetParam().name << " cannot run on this machine";
  }
  const TileLoops& tiles() { return *GetParam().loops; }
};

// What row products do: gathered rows by a weight, as it stands and transposed.
TEST_P(TileLoopsTest, MultiplyRowsByWeights) {
  for (const Sizes& s : kSizes) {
    const int64_t stride = s.depth + 3;
    const std::vector<uint16_t> x = rounded(normal(2 * s.rows * stride, 1));
    const std::vector<float> w = normal(s.depth * s.columns, 2);
    std::vector<int32_t> index;
    for (int64_t i = 0; i < s.rows; ++i)
      index.push_back(static_cast<int32_t>(2 * (s.rows - i) - 1));
    for (const bool gathered : {false, true}) {
      std::vector<uint16_t> left = room(s.rows, s.depth);
      tiles().pack_rows(x.data(), stride, gathered ? index.data() : nullptr, s.rows, s.depth,
                        left.data());
      const auto a = [&](int64_t i, int64_t k) {
        return number(
            x[static_cast<size_t>((gathered ? index[static_cast<size_t>(i)] : i) * stride + k)]);
      };
      for (const bool transposed : {false, true}) {
        std::vector<uint16_t> right = room(s.columns, s.depth);
        const int64_t depth_stride = transposed ? 1 : s.columns;
        const int64_t column_stride = transposed ? s.depth : 1;
        tiles().pack_weight(w.data(), s.depth, depth_stride, s.columns, column_stride,
                            right.data());
        const auto b = [&](int64_t k, int64_t j) {
          return number(
              BFloat16(w[static_cast<size_t>(k * depth_stride + j * column_stride)]).bits());
        };
        for (const bool accumulate : {false, true}) {
          expect_product(multiplied(tiles(), s, left, right, accumulate), s, accumulate, a, b);
        }
      }
    }
  }
}

// What gradients of weights do: both sides' rows are the depth.
TEST_P(TileLoopsTest, MultiplyTransposedRowsByRows) {
  for (const Sizes& s : kSizes) {
    const std::vector<uint16_t> dy = rounded(normal(s.depth * (s.rows + 5), 3));
    const std::vector<uint16_t> x = rounded(normal(3 * s.depth * s.columns, 4));
    std::vector<int32_t> index;
    for (int64_t k = 0; k < s.depth; ++k)
      index.push_back(static_cast<int32_t>(3 * s.depth - 1 - 3 * k));
    std::vector<uint16_t> left = room(s.rows, s.depth), right = room(s.columns, s.depth);
    tiles().pack_transposed(dy.data(), s.rows + 5, nullptr, s.depth, s.rows, left.data());
    tiles().pack_right(x.data(), s.columns, index.data(), s.depth, s.columns, right.data());
    expect_product(
        multiplied(tiles(), s, left, right, true), s, true,
        [&](int64_t i, int64_t k) { return number(dy[static_cast<size_t>(k * (s.rows + 5) + i)]); },
        [&](int64_t k, int64_t j) {
          return number(x[static_cast<size_t>(index[static_cast<size_t>(k)] * s.columns + j)]);
        });
  }
}

// A sum's bits depend neither on the other rows of the call nor on where its depth is cut.
TEST_P(TileLoopsTest, SumsDoNotDependOnTheCall) {
  const Sizes s{70, 160, 19};
  const std::vector<uint16_t> x = rounded(normal(s.rows * s.depth, 5));
  const std::vector<float> w = normal(s.depth * s.columns, 6);
  const auto product = [&](int64_t first, int64_t rows, const std::vector<int64_t>& cuts) {
    std::vector<float> c(static_cast<size_t>(rows * s.columns));
    tiles().begin();
    for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
      const int64_t k = cuts[cut], depth = cuts[cut + 1] - k;
      std::vector<uint16_t> left = room(rows, depth), right = room(s.columns, depth);
      tiles().pack_rows(x.data() + first * s.depth + k, s.depth, nullptr, rows, depth, left.data());
      tiles().pack_weight(w.data() + k * s.columns, depth, s.columns, s.columns, 1, right.data());
      tiles().product(left.data(), rows, right.data(), depth, c.data(), s.columns, s.columns,
                      k > 0);
    }
    tiles().end();
    return c;
  };
  const std::vector<float> whole = product(0, s.rows, {0, s.depth});
  EXPECT_TRUE(whole == product(0, s.rows, {0, 32, 128, s.depth}));
  for (const int64_t rows : {1, 5, 16, 17, 32, 38}) {
    for (const int64_t first : {0, 3, 32}) {
      const std::vector<float> same(whole.begin() + first * s.columns,
                                    whole.begin() + (first + rows) * s.columns);
      EXPECT_TRUE(product(first, rows, {0, s.depth}) == same) << rows << " from " << first;
    }
  }
}

// The sum of a's products with b, both of up to 32 elements, added to c.
float dot(const TileLoops& tiles, const std::vector<float>& a, const std::vector<float>& b,
          float c) {
  const auto depth = static_cast<int64_t>(a.size());
  std::vector<uint16_t> left = room(1, depth), right = room(1, depth);
  tiles.pack_rows(rounded(a).data(), depth, nullptr, 1, depth, left.data());
  tiles.pack_weight(b.data(), depth, 1, 1, depth, right.data());
  tiles.begin();
  tiles.product(left.data(), 1, right.data(), depth, &c, 1, 1, true);
  tiles.end();
  return c;
}

// By hand from the instruction's definition.
TEST_P(TileLoopsTest, SumsAreThoseOfTheInstruction) {
  const float half_step = 0x1p-24f;  // 1 + this is a tie, which rounds to 1
  // Even elements by themselves, odd ones by themselves.
  EXPECT_EQ(dot(tiles(), {1, half_step, half_step, half_step}, {1, 1, 1, 1}, 0.0f), 1 + 0x1p-23f);
  EXPECT_EQ(dot(tiles(), {1, half_step, half_step, 0}, {1, 1, 1, 1}, 0.0f), 1);
  // Their sum comes to what was there last: all alone the first element would be lost.
  EXPECT_EQ(dot(tiles(), {half_step, half_step}, {1, 1}, 1.0f), 1 + 0x1p-23f);
  EXPECT_EQ(dot(tiles(), {half_step, 0}, {1, 1}, 1.0f), 1);
  // A product isn't rounded before it is added: 1 - (1 + 2^-7)(1 - 2^-7) = 2^-14.
  EXPECT_EQ(dot(tiles(), {1, 0, 1 + 0x1p-7f, 0}, {1, 0, -1 + 0x1p-7f, 0}, 0.0f), 0x1p-14f);
}

TEST_P(TileLoopsTest, SubnormalNumbersCountAsZero) {
  const float smallest = std::numeric_limits<float>::min();
  EXPECT_EQ(dot(tiles(), {smallest}, {1}, 0.0f), smallest);
  EXPECT_EQ(dot(tiles(), {smallest / 2}, {4}, 0.0f), 0.0f);  // in
  EXPECT_EQ(dot(tiles(), {smallest}, {0.5f}, 0.0f), 0.0f);   // out
  EXPECT_EQ(dot(tiles(), {0}, {0}, smallest / 2), 0.0f);     // what was there
}

TEST_P(TileLoopsTest, WhatIsNotFiniteStaysSo) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(dot(tiles(), {infinity, 1}, {2, 1}, 0.0f), infinity);
  EXPECT_TRUE(std::isnan(dot(tiles(), {infinity, 1}, {0, 1}, 0.0f)));
  EXPECT_TRUE(std::isnan(dot(tiles(), {1}, {std::bit_cast<float>(0x7F800001u)}, 0.0f)));
}

// Operands of very different sizes, so that every rounding shows.
TEST_P(TileLoopsTest, TheProcessorIsAsItsModel) {
  const Sizes s{45, 300, 32};
  std::vector<float> a = normal(s.rows * s.depth, 7), b = normal(s.depth * s.columns, 8);
  for (size_t i = 0; i < a.size(); ++i) a[i] = std::ldexp(a[i], static_cast<int>(i % 61) - 30);
  const std::vector<uint16_t> x = rounded(a);
  std::vector<uint16_t> left = room(s.rows, s.depth), right = room(s.columns, s.depth);
  tiles().pack_rows(x.data(), s.depth, nullptr, s.rows, s.depth, left.data());
  tiles().pack_weight(b.data(), s.depth, s.columns, s.columns, 1, right.data());
  EXPECT_TRUE(multiplied(tiles(), s, left, right, true) ==
              multiplied(kModelledTiles, s, left, right, true));
}

INSTANTIATE_TEST_SUITE_P(Each, TileLoopsTest,
                         testing::Values(Tiles{"amx", &cpu::kAmxLoops,
                                               cpu::is_usable(cpu::Isa::kAmx)},
                                         Tiles{"modelled", &kModelledTiles, true}),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace switchyard::test
