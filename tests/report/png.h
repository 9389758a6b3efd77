// Reads a picture that a browser wrote: PNG with 8 bits a channel, RGB or RGBA, not interlaced.
#pragma once

#include <zlib.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/check.h"

namespace switchyard::test {

struct Picture {
  int64_t width = 0, height = 0;
  std::vector<std::array<uint8_t, 3>> pixels;  // [height, width]

  const std::array<uint8_t, 3>& at(int64_t x, int64_t y) const {
    return pixels.at(static_cast<size_t>(y * width + x));
  }
};

inline uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes.at(at + i));
  return value;
}

inline int paeth(int left, int up, int corner) {
  const int guess = left + up - corner;
  const int a = std::abs(guess - left), b = std::abs(guess - up), c = std::abs(guess - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

// Undoes the filter of one row, in place; `above` is empty for the first row.
inline void unfilter(int filter, std::string& row, const std::string& above, size_t channels) {
  for (size_t i = 0; i < row.size(); ++i) {
    const int left = i < channels ? 0 : static_cast<uint8_t>(row[i - channels]);
    const int up = above.empty() ? 0 : static_cast<uint8_t>(above[i]);
    const int corner =
        i < channels || above.empty() ? 0 : static_cast<uint8_t>(above[i - channels]);
    const int predicted = filter == 1   ? left
                          : filter == 2 ? up
                          : filter == 3 ? (left + up) / 2
                          : filter == 4 ? paeth(left, up, corner)
                                        : 0;
    row[i] = static_cast<char>(static_cast<uint8_t>(row[i]) + predicted);
  }
}

inline Picture read_png(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  SWITCHYARD_CHECK(bytes.compare(1, 3, "PNG") == 0, path.string());
  Picture picture{.width = big_endian(bytes, 16), .height = big_endian(bytes, 20)};
  SWITCHYARD_CHECK(bytes[24] == 8 && (bytes[25] == 2 || bytes[25] == 6) && bytes[28] == 0,
                   path.string());
  const size_t channels = bytes[25] == 2 ? 3 : 4;
  std::string packed;
  for (size_t at = 8; at + 8 <= bytes.size();) {
    const size_t length = big_endian(bytes, at);
    if (bytes.compare(at + 4, 4, "IDAT") == 0) packed += bytes.substr(at + 8, length);
    at += length + 12;
  }
  const size_t row_size = static_cast<size_t>(picture.width) * channels;
  std::string raw((row_size + 1) * static_cast<size_t>(picture.height), '\0');
  uLongf size = raw.size();
  SWITCHYARD_CHECK(uncompress(reinterpret_cast<Bytef*>(raw.data()), &size,
                              reinterpret_cast<const Bytef*>(packed.data()), packed.size()) == Z_OK,
                   path.string());
  std::string above;
  for (int64_t y = 0; y < picture.height; ++y) {
    const size_t begin = static_cast<size_t>(y) * (row_size + 1);
    std::string row = raw.substr(begin + 1, row_size);
    unfilter(raw[begin], row, above, channels);
    for (size_t x = 0; x < row_size; x += channels) {
      picture.pixels.push_back({static_cast<uint8_t>(row[x]), static_cast<uint8_t>(row[x + 1]),
                                static_cast<uint8_t>(row[x + 2])});
    }
    above = std::move(row);
  }
  return picture;
}

}  // namespace switchyard::test
