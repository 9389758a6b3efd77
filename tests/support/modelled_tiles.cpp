#include "support/modelled_tiles.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace switchyard::test {
namespace {

using cpu::kTileBlock, cpu::kTileDepth, cpu::tile_depth_of;
#include "backends/cpu/tile_loops_body.h"

float without_subnormals(float x) {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

// Elements 2 k + half of a register's rows of pairs, as numbers.
using Numbers = std::array<std::array<float, 16>, 16>;
Numbers halves(const uint32_t (&words)[16][16], int half) {
  Numbers numbers;
  for (size_t row = 0; row < 16; ++row) {
    for (size_t i = 0; i < 16; ++i) {
      const uint32_t bits = half == 0 ? words[row][i] << 16 : words[row][i] & 0xFFFF0000u;
      std::memcpy(&numbers[row][i], &bits, sizeof bits);
      numbers[row][i] = without_subnormals(numbers[row][i]);
    }
  }
  return numbers;
}

float multiply_add(float a, float b, float c) { return without_subnormals(std::fma(a, b, c)); }
float sum(float a, float b) {
  return without_subnormals(without_subnormals(a) + without_subnormals(b));
}

// The registers of this thread, which exist between begin() and end().
struct Tile {
  uint32_t words[16][16];
};
thread_local std::array<Tile, 8> registers;
thread_local bool configured = false;

struct Model {
  static void begin() {
    configured = true;
    std::memset(registers.data(), 0, sizeof registers);
  }
  static void end() { configured = false; }
  static Tile& tile(int number) {
    SWITCHYARD_CHECK(configured, "tile ", number, " is used before begin()");
    return registers[static_cast<size_t>(number)];
  }
  template <int kTile>
  static void zero() {
    std::memset(tile(kTile).words, 0, sizeof(Tile::words));
  }
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    for (int row = 0; row < 16; ++row) {
      std::memcpy(tile(kTile).words[row], static_cast<const char*>(from) + row * stride, 64);
    }
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    for (int row = 0; row < 16; ++row) {
      std::memcpy(static_cast<char*>(to) + row * stride, tile(kTile).words[row], 64);
    }
  }
  template <int kSum, int kLeft, int kRight>
  static void dot() {
    const Numbers left[2] = {halves(tile(kLeft).words, 0), halves(tile(kLeft).words, 1)};
    const Numbers right[2] = {halves(tile(kRight).words, 0), halves(tile(kRight).words, 1)};
    for (size_t m = 0; m < 16; ++m) {
      for (size_t n = 0; n < 16; ++n) {
        float even = 0, odd = 0, total;
        for (size_t k = 0; k < 16; ++k) {
          even = multiply_add(left[0][m][k], right[0][k][n], even);
          odd = multiply_add(left[1][m][k], right[1][k][n], odd);
        }
        uint32_t& word = tile(kSum).words[m][n];
        std::memcpy(&total, &word, sizeof total);
        total = sum(total, sum(even, odd));
        std::memcpy(&word, &total, sizeof total);
      }
    }
  }
};

}  // namespace

const cpu::TileLoops kModelledTiles = SWITCHYARD_TILE_LOOPS("modelled tiles", Model);

}  // namespace switchyard::test
