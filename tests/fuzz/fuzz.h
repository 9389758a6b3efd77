// What the fuzz targets share. A target hands a reader bytes that nobody vouches for: the reader
// takes them or refuses them with the error it is meant to, in words fit for a terminal. Anything
// else (another exception, a crash, a sanitizer's report, too much memory or time) is a finding.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard::fuzz {

inline void check_words(const Error& error) {
  const std::string_view text = error.what();
  SWITCHYARD_CHECK(std::count(text.begin(), text.end(), '\n') <= 2, "of many lines: ", text);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    SWITCHYARD_CHECK(c == '\n' || (byte >= 0x20 && byte != 0x7f), "unprintable: ", text);
  }
}

// Whether `read` took its input; it may refuse it by a Refusal.
template <typename Refusal, typename Read>
bool accepts(Read&& read) {
  try {
    read();
    return true;
  } catch (const Refusal& error) {
    check_words(error);
    return false;
  }
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace switchyard::fuzz
